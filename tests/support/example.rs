//! A recipe's own example, so that no two requests of it are the same.

use countersign::dialect::Example;

/// Target and body of the example with one more parameter, which has this value.
pub(crate) fn with_id(example: &Example, id: &str) -> (String, String) {
    let mut target = example.target.clone();
    let body = match example.body.strip_suffix('}') {
        Some("{") => format!("{{\"id\":\"{id}\"}}"),
        // Crypto.com's parameters stand in an object of their own, and have fixed names.
        Some(open) if open.ends_with('}') => {
            format!("{},\"client_oid\":\"{id}\"}}}}", open.trim_end_matches('}'))
        }
        Some(open) => format!("{open},\"id\":\"{id}\"}}"),
        None if example.body.is_empty() => {
            let mark = if target.contains('?') { '&' } else { '?' };
            target = format!("{target}{mark}id={id}");
            String::new()
        }
        None => format!("{}&id={id}", example.body),
    };
    (target, body)
}
