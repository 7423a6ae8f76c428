//! The values that configuration is made of: sizes, times, names, networks, moments.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use toml::de::DeValue;
use toml::value::{Datetime, Offset};

use super::document::{mistyped, text};
use super::problem::{Fault, shown};
use crate::clock::Micros;
use crate::key::unmapped;

/// A whole number in `range`.
pub(super) fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Result<T, Fault>
where
    T: Copy + std::fmt::Display + PartialOrd + TryFrom<i64>,
{
    move |value| {
        let integer = value.as_integer().ok_or_else(|| mistyped("a whole number", value))?;
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.and_then(|number| T::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            Fault::new(format!("{integer} is not from {} to {}", range.start(), range.end()))
        })
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| mistyped("true or false", value))
}

/// A time span as "250ms", "5s", "10m", "1h", "90d", in `range`.
pub(super) fn span(
    range: RangeInclusive<Duration>,
) -> impl Fn(&DeValue<'_>) -> Result<Duration, Fault> {
    move |value| {
        let cure = "write a number with its unit, as \"250ms\", \"5s\", \"10m\", \"1h\" or \"90d\"";
        let Some(text) = value.as_str() else {
            return Err(Fault { cure: Some(cure.into()), ..mistyped("a time span", value) });
        };
        let span = with_unit(text, &UNITS);
        let span = span
            .map(Duration::from_millis)
            .ok_or_else(|| Fault::cured(format!("\"{}\" is no time span", shown(text)), cure))?;
        if range.contains(&span) {
            return Ok(span);
        }
        let (least, most) = (in_words(*range.start()), in_words(*range.end()));
        Err(Fault::new(format!("\"{}\" is not from {least} to {most}", shown(text))))
    }
}

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A size in bytes as "512B", "32KiB", "1MiB", in `range`.
pub(super) fn size(range: RangeInclusive<usize>) -> impl Fn(&DeValue<'_>) -> Result<usize, Fault> {
    move |value| {
        let cure = "write a number with its unit, as \"512B\", \"32KiB\" or \"1MiB\"";
        let Some(text) = value.as_str() else {
            return Err(Fault { cure: Some(cure.into()), ..mistyped("a size", value) });
        };
        let size = with_unit(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("B", 1)]);
        let size = size.and_then(|size| usize::try_from(size).ok());
        let size =
            size.ok_or_else(|| Fault::cured(format!("\"{}\" is no size", shown(text)), cure))?;
        if range.contains(&size) {
            return Ok(size);
        }
        let (least, most) = (range.start(), range.end());
        Err(Fault::new(format!("\"{}\" is not from {least} to {most} bytes", shown(text))))
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, scale) = units.iter().find_map(|(unit, scale)| {
        let digits = text.strip_suffix(unit)?;
        let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        all.then_some((digits, *scale))
    })?;
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

/// A span in its largest whole unit.
pub(crate) fn in_words(span: Duration) -> String {
    let ms = span.as_millis();
    match ms {
        _ if ms > 0 && ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms > 0 && ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

/// A name for metrics and references: lower-case letters, digits, `-` and `_`.
pub(super) fn name<'a>(value: &'a DeValue<'a>) -> Result<&'a str, Fault> {
    let text = text(value)?;
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if text.len() <= 64 && text.bytes().all(plain) {
        return Ok(text);
    }
    Err(Fault::cured(
        format!("\"{}\" is no name", shown(text)),
        "use up to 64 lower-case letters, digits, `-` and `_`",
    ))
}

/// One of a few words.
pub(super) fn word<T: Copy>(
    kind: &'static str,
    known: &'static [(T, &'static str)],
) -> impl Fn(&DeValue<'_>) -> Result<T, Fault> {
    move |value| {
        let text = text(value)?;
        let found = known.iter().find(|(_, name)| *name == text).map(|(meant, _)| *meant);
        found.ok_or_else(|| Fault::unknown(kind, text, known.iter().map(|(_, name)| *name)))
    }
}

pub(super) fn address(value: &DeValue<'_>) -> Result<SocketAddr, Fault> {
    let text = text(value)?;
    text.parse().map_err(|_| {
        Fault::cured(
            format!("\"{}\" is no address and port", shown(text)),
            "write an IP address with its port, as \"127.0.0.1:8080\" or \"[::]:8080\"",
        )
    })
}

/// An address, or a network in CIDR form. Every address at once is refused.
pub(super) fn network(text: &str) -> Result<IpNet, Fault> {
    let single = text.parse::<IpAddr>().map(IpNet::from);
    let network: IpNet = single.or_else(|_| text.parse()).map_err(|_| {
        Fault::cured(
            format!("\"{}\" is no address and no network", shown(text)),
            "write as \"203.0.113.7\", \"203.0.113.0/24\" or \"2001:db8::/32\"",
        )
    })?;
    let mapped_all = matches!(network, IpNet::V6(v6)
        if v6.prefix_len() <= 96 && v6.addr().to_ipv4_mapped().is_some());
    if network.prefix_len() == 0 || mapped_all {
        return Err(Fault::cured(
            format!("\"{text}\" is every address, so it protects nothing"),
            "name the networks that are meant, or leave the list out",
        ));
    }
    if network.addr() != network.network() {
        return Err(Fault::cured(
            format!("\"{text}\" has bits set behind its prefix"),
            format!("did you mean \"{}\"?", network.trunc()),
        ));
    }
    // No address is compared in its mapped form.
    Ok(unmapped(network))
}

/// A header field that may be passed on to backends.
pub(super) fn passed_on(text: &str) -> Result<HeaderName, Fault> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Fault::new(format!("\"{}\" is no header name", shown(text))))?;
    let lower = name.as_str();
    if lower.starts_with("countersign-") {
        return Err(Fault::new(
            "this name is reserved: backends trust it to come from the gateway",
        ));
    }
    if lower.contains('_') {
        return Err(Fault::new("requests with `_` in a header name are refused"));
    }
    if OURS.contains(&lower) {
        return Err(Fault::new(format!("`{lower}` is set by the gateway itself")));
    }
    Ok(name)
}

const OURS: [&str; 14] = [
    "connection",
    "content-length",
    "content-type",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-request-id",
];

/// A moment in RFC 3339, as a TOML date-time or as text.
pub(super) fn moment(value: &DeValue<'_>) -> Result<Micros, Fault> {
    let cure = "write it with its offset, as 2030-01-31T00:00:00Z";
    let found = match (value.as_datetime(), value.as_str()) {
        (Some(found), _) => Some(*found),
        (None, Some(text)) => text.parse::<Datetime>().ok(),
        (None, None) => return Err(mistyped("a moment", value)),
    };
    found.and_then(|found| since_epoch(&found)).ok_or_else(|| Fault::cured("it is no moment", cure))
}

/// A moment in RFC 3339.
pub(crate) fn moment_of(text: &str) -> Option<Micros> {
    since_epoch(&text.parse::<Datetime>().ok()?)
}

fn since_epoch(moment: &Datetime) -> Option<Micros> {
    let (date, time) = (moment.date?, moment.time?);
    let offset = match moment.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes) * 60,
    };
    // Days of the proleptic Gregorian calendar, with years that begin in March.
    let (year, month) = (i64::from(date.year), i64::from(date.month));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100
        + year / 400
        + (153 * month + 2) / 5
        + i64::from(date.day)
        - 719_469;
    let clock = i64::from(time.hour) * 3_600
        + i64::from(time.minute) * 60
        + i64::from(time.second.unwrap_or_default());
    let seconds = u64::try_from(days * 86_400 + clock - offset).ok()?;
    Some(Micros(seconds.checked_mul(1_000_000)? + u64::from(time.nanosecond.unwrap_or(0) / 1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_counted_from_the_epoch() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600_000)),
            ("2023-11-14T22:13:20Z", Some(1_700_000_000_000)),
            ("2023-11-15T00:13:20+02:00", Some(1_700_000_000_000)),
            ("2023-11-14T22:13:20.5Z", Some(1_700_000_000_500)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400_000)),
            ("1969-12-31T23:59:59Z", None),
            ("2023-11-14", None),
            ("2023-11-14T22:13:20", None),
        ] {
            let found = text.parse::<Datetime>().ok().and_then(|moment| since_epoch(&moment));
            assert_eq!(found.map(Micros::as_millis), ms, "{text}");
        }
    }

    #[test]
    fn a_mapped_network_is_the_one_it_maps() {
        for (text, read) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.7", "10.0.0.7/32"),
            ("10.0.0.7", "10.0.0.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(network(text).ok().map(|read| read.to_string()).as_deref(), Some(read));
        }
        assert!(network("::ffff:0.0.0.0/96").is_err());
    }

    #[test]
    fn numbers_need_their_unit_and_do_not_wrap() {
        let units = [("ms", 1), ("s", 1_000)];
        for (text, found) in [
            ("250ms", Some(250)),
            ("5s", Some(5_000)),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("5 s", None),
            ("1.5s", None),
            ("18446744073709551615s", None),
        ] {
            assert_eq!(with_unit(text, &units), found, "{text}");
        }
    }
}
