//! The file of claims: the part of TOML that it needs, with the line in every error.
//!
//! In its simple form: `[[claim]]` begins an entry, `key = value` fills it; a value is a text in quotes, a number, or a table of
//! numbers on one line, `{ baseline = 71, "i-k-j over slices" = 5 }`. A library for all of TOML would change the features of
//! other crates' dependencies for the sake of one file.

use std::collections::BTreeMap;

use super::claims::Claim;

/// Every key of an entry.
const KEYS: [&str; 8] = [
    "name",
    "claim",
    "bench",
    "candidate",
    "against",
    "maximum",
    "minimum",
    "cores",
];

/// Reads the entries.
///
/// # Errors
/// The line that cannot be understood, what was expected there, or the key that an entry lacks.
pub(super) fn parse(text: &str) -> Result<Vec<Claim>, String> {
    let mut claims: Vec<Claim> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let at = |message: String| format!("line {number}: {message}");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "[[claim]]" {
            claims.push(Claim::default());
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(at(format!(
                "expected [[claim]] or key = value, found {line:?}"
            )));
        };
        let Some(claim) = claims.last_mut() else {
            return Err(at("a key stands before the first [[claim]]".to_owned()));
        };
        fill(claim, key.trim(), value.trim()).map_err(at)?;
    }
    if claims.is_empty() {
        return Err("there is no claim in it".to_owned());
    }
    for (index, claim) in claims.iter().enumerate() {
        for (key, value) in [
            ("name", &claim.name),
            ("claim", &claim.claim),
            ("bench", &claim.bench),
        ] {
            if value.is_empty() {
                let index = index + 1;
                return Err(format!("claim {index} ({:?}) has no {key}", claim.name));
            }
        }
    }
    Ok(claims)
}

fn fill(claim: &mut Claim, key: &str, value: &str) -> Result<(), String> {
    match key {
        "name" => claim.name = text(value)?,
        "claim" => claim.claim = text(value)?,
        "bench" => claim.bench = text(value)?,
        "candidate" => claim.candidate = Some(text(value)?),
        "against" => claim.against = table(value)?,
        "maximum" => claim.maximum = Some(number(value)?),
        "minimum" => claim.minimum = Some(number(value)?),
        "cores" => {
            let cores = value.parse().ok();
            let expected = || format!("cores is a whole number, found {value}");
            claim.cores = Some(cores.ok_or_else(expected)?);
        }
        _ => {
            return Err(format!(
                "there is no key {key:?}; the keys are: {}",
                KEYS.join(", ")
            ));
        }
    }
    Ok(())
}

/// What stands between quotes; there are no escapes.
fn text(value: &str) -> Result<String, String> {
    let inner = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let inner = inner.filter(|inner| !inner.contains(['"', '\\']));
    inner
        .map(str::to_owned)
        .ok_or_else(|| format!("expected a text in quotes, found {value}"))
}

fn number(value: &str) -> Result<f64, String> {
    let number = value.parse().ok().filter(|x: &f64| x.is_finite());
    number.ok_or_else(|| format!("expected a number, found {value}"))
}

/// `{ name = number, "another name" = number }`
fn table(value: &str) -> Result<BTreeMap<String, f64>, String> {
    let inner = value
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .ok_or_else(|| format!("expected {{ side = factor, .. }}, found {value}"))?;
    let mut found = BTreeMap::new();
    for pair in inner.split(',') {
        let Some((name, factor)) = pair.split_once('=') else {
            return Err(format!("expected side = factor, found {:?}", pair.trim()));
        };
        let name = name.trim();
        let name = match text(name) {
            Ok(name) => name,
            Err(_) => name.to_owned(),
        };
        found.insert(name, number(factor.trim())?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_read() {
        let file = "# claims\n\n[[claim]]\nname = \"a\"\nclaim = \"b = c\"\nbench = \"step/X\"\n\
                    against = { baseline = 71, \"i k\" = 2.5 }\nmaximum = 10\ncores = 2\n";
        let claims = parse(file).unwrap();
        let claim = &claims[0];
        assert_eq!((claim.name.as_str(), claim.claim.as_str()), ("a", "b = c"));
        assert_eq!(claim.against["baseline"], 71.0);
        assert_eq!(claim.against["i k"], 2.5);
        assert_eq!((claim.maximum, claim.cores), (Some(10.0), Some(2)));
    }

    #[test]
    fn what_cannot_be_understood_names_its_line() {
        for (text, words) in [
            ("name = \"a\"", "before the first"),
            ("[[claim]]\nhello", "line 2: expected [[claim]]"),
            ("[[claim]]\nnmae = \"a\"", "\"nmae\"; the keys are: name"),
            ("[[claim]]\nname = a", "line 2: expected a text in quotes"),
            ("[[claim]]\nmaximum = ten", "expected a number"),
            ("[[claim]]\nagainst = 71", "{ side = factor"),
            ("[[claim]]\nagainst = { baseline }", "side = factor"),
            ("[[claim]]\nname = \"a\"\nclaim = \"b\"", "has no bench"),
            ("", "no claim"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
