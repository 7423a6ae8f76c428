//! The functions that programs in Go are made of.

use crate::key::Algorithm;

/// Every function that `main` calls, and those that they call.
pub(super) fn functions(main: &str) -> String {
    let all = [
        ("uuid(", UUID),
        ("rendered(", RENDERED),
        ("pairs(", PAIRS),
        ("sha256Of(", SHA256),
        ("sha512Of(", SHA512),
        ("sorted(", SORTED),
    ];
    let called = all.iter().filter(|(mention, _)| main.contains(mention));
    called.map(|(_, text)| *text).collect::<String>() + CHECK
}

/// The function that reads the private key: PKCS#8, or what older tools write.
pub(super) fn private_key(algorithm: Algorithm) -> String {
    let (kind, older) = match algorithm {
        Algorithm::EcdsaP256Sha256 => ("*ecdsa.PrivateKey", Some("EC")),
        Algorithm::RsaSha256 | Algorithm::RsaPssSha512 => ("*rsa.PrivateKey", Some("PKCS1")),
        Algorithm::Ed25519
        | Algorithm::HmacSha256
        | Algorithm::HmacSha384
        | Algorithm::HmacSha512 => ("ed25519.PrivateKey", None),
    };
    let older = older.map_or_else(String::new, |older| {
        format!(
            "\tif private, err := x509.Parse{older}PrivateKey(block.Bytes); err == nil {{\n\
             \t\treturn private\n\t}}\n"
        )
    });
    format!(
        "\nfunc privateKey(text []byte) {kind} {{\n\tblock, _ := pem.Decode(text)\n\
         \tif block == nil {{\n\t\tlog.Fatal(\"SECRET is no private key in PEM\")\n\t}}\n{older}\
         \tprivate, err := x509.ParsePKCS8PrivateKey(block.Bytes)\n\tcheck(err)\n\
         \treturn private.({kind})\n}}\n"
    )
}

const CHECK: &str = "
func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
";

const UUID: &str = r#"
func uuid() string {
	random := make([]byte, 16)
	_, err := rand.Read(random)
	check(err)
	random[6], random[8] = random[6]&0x0f|0x40, random[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", random[:4], random[4:6], random[6:8], random[8:10], random[10:])
}
"#;

const SHA256: &str = "
func sha256Of(text string) []byte {
	digest := sha256.Sum256([]byte(text))
	return digest[:]
}
";

const SHA512: &str = "
func sha512Of(text string) []byte {
	digest := sha512.Sum512([]byte(text))
	return digest[:]
}
";

const SORTED: &str = r#"
func sorted(query string) string {
	pairs := strings.FieldsFunc(query, func(r rune) bool { return r == '&' })
	name := func(pair string) string { return strings.SplitN(pair, "=", 2)[0] }
	sort.SliceStable(pairs, func(i, j int) bool { return name(pairs[i]) < name(pairs[j]) })
	return strings.Join(pairs, "&")
}
"#;

const RENDERED: &str = r#"
func render(value any) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case map[string]any:
		names := []string{}
		for name := range value {
			names = append(names, name)
		}
		sort.Strings(names)
		out := ""
		for _, name := range names {
			out += name + render(value[name])
		}
		return out
	case []any:
		out := ""
		for _, item := range value {
			out += render(item)
		}
		return out
	}
	return fmt.Sprint(value)
}

func rendered(body, name string) string {
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.UseNumber()
	var document map[string]any
	check(decoder.Decode(&document))
	return render(document[name])
}
"#;

const PAIRS: &str = r#"
func pairs(body string) string {
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.UseNumber()
	decoder.Token()
	out := []string{}
	for decoder.More() {
		name, _ := decoder.Token()
		var value any
		check(decoder.Decode(&value))
		items, ok := value.([]any)
		if !ok {
			out = append(out, fmt.Sprintf("%v=%v", name, plain(value)))
		}
		for _, item := range items {
			out = append(out, fmt.Sprintf("%v[]=%v", name, plain(item)))
		}
	}
	return strings.Join(out, "&")
}

func plain(value any) any {
	if value == nil {
		return "null"
	}
	return value
}
"#;
