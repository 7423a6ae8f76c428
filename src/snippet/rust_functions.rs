//! The functions that programs in Rust are made of.

/// Every function that `main` calls.
pub(super) fn functions(main: &str) -> String {
    let all = [
        ("uuid(", UUID),
        ("moment(", MOMENT),
        ("sorted(", SORTED),
        ("escaped(", ESCAPED),
        ("rendered(", RENDERED),
        ("pairs(", PAIRS),
        ("parsed(", PARSED),
    ];
    all.iter().filter(|(mention, _)| main.contains(mention)).map(|(_, text)| *text).collect()
}

const UUID: &str = r#"
fn uuid() -> Result<String, getrandom::Error> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random)?;
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let hex = HEXLOWER.encode(&random);
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}
"#;

const MOMENT: &str = r#"
/// UTC as `YYYY-MM-DDThh:mm:ss`, by the proleptic Gregorian calendar.
fn moment(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let day = day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}
"#;

const SORTED: &str = r#"
fn sorted(query: &str) -> String {
    let mut pairs: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_by_key(|pair| pair.split('=').next());
    pairs.join("&")
}
"#;

const ESCAPED: &str = r#"
fn escaped(text: &str) -> String {
    let text = text.replace('%', "%25").replace('+', "%2B").replace('/', "%2F");
    text.replace('=', "%3D").replace(':', "%3A")
}
"#;

const RENDERED: &str = r"
fn rendered(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(members) => {
            let mut all: Vec<_> = members.iter().collect();
            all.sort_by_key(|(name, _)| *name);
            all.iter().map(|(name, value)| [name, &*rendered(value)].concat()).collect()
        }
        Value::Array(items) => items.iter().map(rendered).collect(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
";

const PAIRS: &str = r#"
fn pairs(members: &serde_json::Value) -> String {
    use serde_json::Value;
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pair = |(name, value): (&String, &Value)| match value {
        Value::Array(items) => {
            items.iter().map(|item| format!("{name}[]={}", plain(item))).collect::<Vec<_>>()
        }
        one => vec![format!("{name}={}", plain(one))],
    };
    members.as_object().into_iter().flatten().flat_map(pair).collect::<Vec<_>>().join("&")
}
"#;

const PARSED: &str = r#"
/// Numbers become strings of their digits: serde_json would write 1E5 another way than it is sent.
fn parsed(body: &str) -> serde_json::Result<serde_json::Value> {
    let mut text = String::new();
    let (mut in_string, mut escaped, mut in_number) = (false, false, false);
    for char in body.chars() {
        let more = in_number && "+.eE".contains(char);
        let is_number = !in_string && (more || char == '-' || char.is_ascii_digit());
        if is_number != in_number {
            text.push('"');
        }
        in_number = is_number;
        in_string ^= char == '"' && !escaped;
        escaped = in_string && char == '\\' && !escaped;
        text.push(char);
    }
    serde_json::from_str(&text)
}
"#;
