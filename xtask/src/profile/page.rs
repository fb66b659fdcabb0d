//! `index.html`: everything that was found, on one page without anything from elsewhere.

use super::components::{Component, Priority, advice, shares};
use super::cpu::Cpu;
use super::flame::{colour, escaped};
use super::{Findings, cache, hotspots};

const STYLE: &str = "
:root { --ink: #1d2433; --soft: #5b6478; --line: #dfe3ea; --back: #f6f7f9; --card: #ffffff; }
* { box-sizing: border-box }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back) }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 60px }
h1 { font-size: 26px; margin: 8px 0 2px } h2 { font-size: 18px; margin: 0 0 10px }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin: 16px 0; overflow-x: auto }
p.lead, td.soft, .soft { color: var(--soft) } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 600; color: var(--soft); font-size: 13px } td.n { text-align: right; white-space: nowrap }
code { font: 12.5px/1.4 ui-monospace, Menlo, Consolas, monospace; word-break: break-all }
.tag { border-radius: 20px; padding: 1px 9px; font-size: 12.5px; background: #eef0f4; white-space: nowrap }
.critical { background: #f9d5d3 } .high { background: #fbe3c0 } .medium { background: #f6efbd }
.dot { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px }
.tiles { display: flex; flex-wrap: wrap; gap: 12px } .tile { background: var(--back); border-radius: 8px; padding: 8px 14px }
.tile b { display: block; font-size: 19px } a { color: #2457a7 }
";

/// The page.
pub(super) fn html(found: &Findings) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Profile: {name}</title>\n<style>{STYLE}</style></head>\n<body><main>\n<h1>Profile: {name}</h1>\n\
         <p class=\"lead\">{}<br>{}</p>\n",
        escaped(&found.what),
        escaped(&found.machine),
        name = escaped(&found.workload),
    );
    for note in &found.notes {
        out += &format!("<p class=\"lead\">{}</p>\n", escaped(note));
    }
    if let Some(cpu) = &found.cpu {
        out += &cpu_sections(cpu);
    }
    if let Some(memory) = &found.memory {
        out += "<section id=\"memory\"><h2>Memory</h2><div class=\"tiles\">";
        for (what, value) in memory.rows() {
            out += &format!(
                "<div class=\"tile\"><b>{}</b>{}</div>",
                escaped(&value),
                escaped(what)
            );
        }
        out += "</div>\n<p class=\"soft\">The largest at the peak; everything is in <a href=\"memory.txt\">memory.txt</a>.</p>\n";
        out += &table(["amount", "asked for by"], &memory.consumers);
        out += "</section>\n";
    }
    if let Some(found) = &found.cache {
        out += &format!(
            "<section id=\"cache\"><h2>Caches and branches</h2><p class=\"soft\">{} Everything is in \
             <a href=\"cache_analysis.txt\">cache_analysis.txt</a>.</p><div class=\"tiles\">",
            escaped(cache::NOTE)
        );
        for (what, value) in found
            .summary
            .iter()
            .filter(|(what, _)| what.contains("rate"))
        {
            let first = value.split(" (").next().unwrap_or(value);
            out += &format!(
                "<div class=\"tile\"><b>{}</b>{}</div>",
                escaped(first),
                escaped(what)
            );
        }
        out += "</div>\n";
        out += &table(["instructions", "function"], &found.functions);
        out += "</section>\n";
    }
    out + "</main></body>\n</html>\n"
}

fn table(head: [&str; 2], rows: &[(String, String)]) -> String {
    let mut out = format!("<table><tr><th>{}</th><th>{}</th></tr>\n", head[0], head[1]);
    for (amount, name) in rows {
        let name = super::stacks::short(name, 160);
        out += &format!(
            "<tr><td class=\"n\">{}</td><td><code>{}</code></td></tr>\n",
            escaped(amount),
            escaped(&name)
        );
    }
    out + "</table>\n"
}

fn cpu_sections(cpu: &Cpu) -> String {
    let shares = shares(&cpu.stacks);
    let mut out = format!(
        "<section id=\"components\"><h2>Time by component</h2>\n<p class=\"soft\">{} samples of {}. Bars are measured; the outline is \
         what the quick reference expects of a transformer.</p>\n{}<table><tr><th>component</th><th>measured</th><th>expected</th>\
         <th>priority</th></tr>\n",
        cpu.stacks.total(),
        cpu.event,
        chart(&shares)
    );
    for (component, share) in &shares {
        let priority = Priority::of(*share);
        out += &format!(
            "<tr><td><span class=\"dot\" style=\"background:{}\"></span>{component}</td><td class=\"n\">{:.1} %</td>\
             <td class=\"n soft\">{}</td><td><span class=\"tag {priority}\">{priority}</span></td></tr>\n",
            colour(*component),
            share * 100.0,
            component
                .expected()
                .map_or_else(String::new, |(low, high)| format!("{low}-{high} %"))
        );
    }
    out += "</table></section>\n<section id=\"next\"><h2>What to try next</h2><ol>\n";
    for (component, share, text) in advice(&shares) {
        out += &format!(
            "<li><b>{component}</b> ({:.1} %). {}</li>\n",
            share * 100.0,
            code(text)
        );
    }
    out += "</ol></section>\n<section id=\"flame\"><h2>Flame graph</h2>\n<p class=\"soft\">A click enlarges a frame, one on \
            <i>all</i> brings the whole back. Also as <a href=\"flamegraph.svg\">flamegraph.svg</a> and \
            <a href=\"stacks.folded\">stacks.folded</a>.</p>\n";
    out += &super::flame::svg(&cpu.stacks, "");
    out += "</section>\n<section id=\"functions\"><h2>Functions</h2><table><tr><th>share</th><th>component</th><th>function</th></tr>\n";
    for function in hotspots::top(cpu) {
        out += &format!(
            "<tr><td class=\"n\">{:.1} %</td><td>{}</td><td><code>{}</code></td></tr>\n",
            function.share * 100.0,
            function.component,
            escaped(&function.name)
        );
    }
    out + "</table><p class=\"soft\">Everything is in <a href=\"perf_report.txt\">perf_report.txt</a>.</p></section>\n"
}

/// Text in which backticks mark code.
fn code(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split('`').enumerate() {
        if i % 2 == 0 {
            out += &escaped(part);
        } else {
            out += &format!("<code>{}</code>", escaped(part));
        }
    }
    out
}

/// Bars of the shares, with the expected ranges as outlines.
fn chart(shares: &[(Component, f64)]) -> String {
    let (left, right, row) = (210.0, 860.0, 26.0);
    let height = shares.len() as f64 * row + 26.0;
    let x = |share: f64| left + share * (right - left);
    let mut out = format!(
        "<svg viewBox=\"0 0 940 {height}\" width=\"100%\" style=\"max-width:940px\" font-size=\"13\" font-family=\"system-ui, sans-serif\" \
         role=\"img\" aria-label=\"Share of time by component\">\n"
    );
    for tick in 0..=10 {
        let share = f64::from(tick) / 10.0;
        out += &format!(
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"4\" y2=\"{1:.1}\" stroke=\"#e6e9ef\"/><text x=\"{0:.1}\" y=\"{2:.1}\" \
             text-anchor=\"middle\" fill=\"#7a8296\" font-size=\"11\">{3} %</text>\n",
            x(share),
            height - 20.0,
            height - 6.0,
            tick * 10
        );
    }
    for (index, (component, share)) in shares.iter().enumerate() {
        let y = index as f64 * row + 6.0;
        // Behind the outline, where the bar ends before it.
        let outline = component
            .expected()
            .map_or(0.0, |(_, high)| f64::from(high) / 100.0);
        let label = x(share.max(outline)) + 8.0;
        out += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#1d2433\">{component}</text>\
             <rect x=\"{left}\" y=\"{:.1}\" width=\"{:.1}\" height=\"15\" rx=\"3\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1d2433\">{:.1} %</text>\n",
            left - 10.0,
            y + 13.0,
            y + 1.0,
            x(*share) - left,
            colour(*component),
            label,
            y + 13.0,
            share * 100.0
        );
        if let Some((low, high)) = component.expected() {
            let (low, high) = (f64::from(low) / 100.0, f64::from(high) / 100.0);
            out += &format!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"21\" rx=\"4\" fill=\"none\" stroke=\"#1d2433\" \
                 stroke-dasharray=\"4 3\"/>\n",
                x(low),
                y - 2.0,
                x(high) - x(low)
            );
        }
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::super::stacks::Stacks;
    use super::*;

    #[test]
    fn the_page_stands_alone() {
        let found = Findings {
            workload: "gemm <64>".to_owned(),
            cpu: Some(Cpu {
                stacks: Stacks::of_perf_script("1 nd_simd::matmul::f<g>\n\n"),
                event: "cycles".to_owned(),
                prepared: 0,
                said: String::new(),
            }),
            ..Findings::default()
        };
        let page = html(&found);
        assert!(page.contains("gemm &lt;64&gt;") && page.contains("f&lt;g&gt;"));
        for foreign in ["http://", "https://", "src="] {
            let own = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!own.contains(foreign), "{foreign}");
        }
        for tag in ["section", "table", "svg", "main", "html"] {
            let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
            let opened = page.matches(&format!("{open} ")).count()
                + page.matches(&format!("{open}>")).count();
            assert_eq!(opened, page.matches(&close).count(), "{tag}");
        }
    }

    #[test]
    fn backticks_become_code() {
        assert_eq!(code("a `b<c` d"), "a <code>b&lt;c</code> d");
    }
}
