//! A page of HTML that needs nothing beside itself: no scripts, no fonts, no pictures from elsewhere.

const STYLE: &str = "
  :root { color-scheme: light dark; }
  body { font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; max-width: 1060px; margin: 2rem auto;
         padding: 0 1rem; background: #ffffff; color: #1c1f24; }
  h1 { font-size: 1.7rem; margin-bottom: .3rem; } h2 { margin-top: 2.4rem; border-bottom: 1px solid #e6e8ec; }
  .meta { color: #666d78; font-size: 13px; } .warning { background: #fff3d6; color: #5c4400; padding: .6rem .8rem; }
  table { border-collapse: collapse; margin: .8rem 0; font-size: 13px; display: block; overflow-x: auto; }
  th, td { padding: .3rem .6rem; border-bottom: 1px solid #e6e8ec; text-align: left; vertical-align: top; }
  th { font-weight: 600; } pre { background: #f6f7f9; padding: .8rem 1rem; margin: 0; font-size: 12.5px; overflow-x: auto; }
  code { background: #f6f7f9; padding: 0 .25rem; }
  .sheets { display: grid; grid-template-columns: repeat(auto-fill, minmax(430px, 1fr)); gap: 1rem; }
  .checks { list-style: none; padding: 0; } .checks li { margin: .35rem 0; }
  svg { max-width: 100%; height: auto; display: block; margin: 1rem 0; }
  @media (prefers-color-scheme: dark) {
    body { background: #15181d; color: #eceef1; } h2, th, td { border-color: #2a2f37; } .meta { color: #9aa2ae; }
    pre, code { background: #1e2229; } .warning { background: #3a2f12; color: #ffdf9a; }
  }
";

/// A whole page.
#[must_use]
pub fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    )
}

/// Text as it stands between tags.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A table.
#[must_use]
pub fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
        let cells: String = cells
            .map(|c| format!("<{tag}>{}</{tag}>", escaped(&c)))
            .collect();
        format!("<tr>{cells}</tr>\n")
    };
    let mut out = "<table>\n".to_owned();
    out += &cells("th", &mut headers.iter().map(|h| (*h).to_owned()));
    for row in rows {
        out += &cells("td", &mut row.iter().cloned());
    }
    out + "</table>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_nothing_else_and_escapes_text() {
        let rows = vec![vec!["a<b".to_owned(), "1 & 2".to_owned()]];
        let page = page("t", &table(&["x", "y"], &rows));
        assert!(page.contains("<td>a&lt;b</td><td>1 &amp; 2</td>"), "{page}");
        for outside in ["http://", "https://", "<script", "<link", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
