//! The flame graph: every stack as a column, as wide as it was seen often, coloured by component.
//!
//! In its simple form: stacks are sorted, so frames that stacks have in common lie beside each other and become one rectangle.
//! A click makes a rectangle as wide as the picture; another on the bottom brings all back. The picture is one file without
//! anything from elsewhere, inside a page or alone. `stacks.folded` beside it is what other programs draw from.

use super::components::{Component, component};
use super::stacks::{Stacks, short};

/// Units across; the picture scales.
const WIDTH: f64 = 1200.0;
/// Units of a frame's height.
const ROW: f64 = 18.0;
/// The narrowest rectangle that is drawn, as a share of the width.
const NARROWEST: f64 = 0.0008;
/// Units of an average letter.
const LETTER: f64 = 6.6;

/// The colour of a component; readable under black letters.
pub(super) fn colour(component: Component) -> &'static str {
    match component {
        Component::MatrixMultiplication => "#f4a259",
        Component::Attention => "#e07a8b",
        Component::Activations => "#f2d16b",
        Component::Memory => "#b8b8d1",
        Component::DataLoading => "#8cb369",
        Component::Optimizer => "#7fb7be",
        Component::Norms => "#c9ada7",
        Component::Recurrent => "#d8b4f8",
        Component::Elementwise => "#9fc5e8",
        Component::Threads => "#cfcfcf",
        Component::Other => "#e6e2d8",
    }
}

/// A rectangle.
#[derive(Debug, PartialEq)]
struct Frame {
    name: String,
    depth: usize,
    /// The first sample, and one past the last.
    samples: (u64, u64),
    component: Component,
}

/// A rectangle that may still grow: name, first sample, and how many samples of each component it has so far.
type Open = (String, u64, Vec<(Component, u64)>);

/// Rectangles of the stacks, which come sorted.
fn frames(stacks: &Stacks) -> Vec<Frame> {
    let mut done = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    for (stack, count) in stacks.iter() {
        let common = open
            .iter()
            .zip(stack)
            .take_while(|((name, ..), frame)| name == *frame)
            .count();
        close(&mut open, common, at, &mut done);
        for frame in &stack[common..] {
            open.push((frame.clone(), at, Vec::new()));
        }
        let found = component(stack);
        for (.., parts) in &mut open {
            match parts.iter_mut().find(|(part, _)| *part == found) {
                Some((_, n)) => *n += count,
                None => parts.push((found, count)),
            }
        }
        at += count;
    }
    close(&mut open, 0, at, &mut done);
    done
}

fn close(open: &mut Vec<Open>, keep: usize, at: u64, done: &mut Vec<Frame>) {
    while open.len() > keep {
        let Some((name, start, parts)) = open.pop() else {
            return;
        };
        let largest = parts.into_iter().max_by_key(|&(_, n)| n);
        done.push(Frame {
            name,
            depth: open.len(),
            samples: (start, at),
            component: largest.map_or(Component::Other, |(part, _)| part),
        });
    }
}

/// The picture.
pub(super) fn svg(stacks: &Stacks, title: &str) -> String {
    let total = stacks.total().max(1) as f64;
    let frames: Vec<Frame> = frames(stacks)
        .into_iter()
        .filter(|f| (f.samples.1 - f.samples.0) as f64 / total >= NARROWEST)
        .collect();
    let deepest = frames.iter().map(|f| f.depth).max().unwrap_or(0);
    let height = (deepest + 2) as f64 * ROW + 34.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"100%\" \
         font-family=\"ui-monospace,Menlo,Consolas,monospace\" font-size=\"11\" class=\"flame\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"13\" fill=\"#222\">{}</text>\n",
        escaped(title)
    );
    let bottom = height - ROW - 6.0;
    out += &rectangle("all", 0, 0.0, 1.0, bottom, Component::Other, 1.0);
    for frame in &frames {
        let (from, to) = (
            frame.samples.0 as f64 / total,
            frame.samples.1 as f64 / total,
        );
        let depth = frame.depth + 1;
        let y = bottom - depth as f64 * ROW;
        out += &rectangle(&frame.name, depth, from, to, y, frame.component, to - from);
    }
    out += SCRIPT;
    out += "</svg>\n";
    out
}

fn rectangle(
    name: &str,
    depth: usize,
    from: f64,
    to: f64,
    y: f64,
    component: Component,
    share: f64,
) -> String {
    let (x, width) = (from * WIDTH, (to - from) * WIDTH);
    let letters = ((width - 6.0) / LETTER).max(0.0) as usize;
    let label = if letters >= 4 {
        short(name, letters)
    } else {
        String::new()
    };
    format!(
        "<g data-x=\"{from:.6}\" data-w=\"{:.6}\" data-d=\"{depth}\" data-n=\"{}\"><title>{} ({:.2} %, {component})</title>\
         <rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{}\" rx=\"1.5\" fill=\"{}\" stroke=\"#fff\" stroke-width=\".5\"/>\
         <text x=\"{:.2}\" y=\"{}\" pointer-events=\"none\" fill=\"#111\">{}</text></g>\n",
        to - from,
        escaped(&short(name, 200)),
        escaped(name),
        share * 100.0,
        ROW - 1.0,
        colour(component),
        x + 3.0,
        y + 12.5,
        escaped(&label)
    )
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A click on a frame shows it across the whole width, with what it called; what is beside it goes.
const SCRIPT: &str = r#"<script><![CDATA[
for (const svg of document.querySelectorAll("svg.flame")) {
  if (svg.dataset.ready) continue;
  svg.dataset.ready = 1;
  const frames = [...svg.querySelectorAll("g")];
  const num = (g, k) => parseFloat(g.dataset[k]);
  for (const g of frames) {
    g.style.cursor = "pointer";
    g.addEventListener("click", () => {
      const x0 = num(g, "x"), w0 = num(g, "w"), d0 = num(g, "d");
      for (const f of frames) {
        const x = num(f, "x"), w = num(f, "w"), below = num(f, "d") < d0;
        const inside = x >= x0 - 1e-6 && x + w <= x0 + w0 + 1e-6;
        const around = below && x <= x0 + 1e-6 && x + w >= x0 + w0 - 1e-6;
        f.style.display = inside && !below || around ? "" : "none";
        const left = around ? 0 : (x - x0) / w0 * 1200, width = around ? 1200 : w / w0 * 1200;
        const r = f.querySelector("rect"), t = f.querySelector("text");
        r.setAttribute("x", left); r.setAttribute("width", Math.max(width, 0)); r.setAttribute("opacity", around ? 0.5 : 1);
        t.setAttribute("x", left + 3);
        const n = Math.floor((width - 6) / 6.6), name = f.dataset.n;
        t.textContent = n < 4 ? "" : name.length > n ? name.slice(0, n - 1) + "…" : name;
      }
    });
  }
}
]]></script>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_frames_are_one_rectangle() {
        let stacks = Stacks::of_perf_script("1 b\n2 a\n\n1 c\n2 a\n\n1 c\n2 a\n\n");
        let mut found: Vec<_> = frames(&stacks)
            .into_iter()
            .map(|f| (f.name, f.depth, f.samples))
            .collect();
        found.sort();
        let wanted = [("a", 0, (0, 3)), ("b", 1, (0, 1)), ("c", 1, (1, 3))];
        assert_eq!(
            found,
            wanted.map(|(name, depth, s)| (name.to_owned(), depth, s))
        );
    }

    #[test]
    fn the_picture_escapes_names_and_closes_what_it_opens() {
        let stacks = Stacks::of_perf_script("1 <a as b>::f&\n\n");
        let svg = svg(&stacks, "t < 1");
        assert!(svg.contains("&lt;a as b&gt;::f&amp;") && svg.contains("t &lt; 1"));
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn colours_differ() {
        let colours: std::collections::BTreeSet<_> =
            Component::ALL.into_iter().map(colour).collect();
        assert_eq!(colours.len(), Component::ALL.len());
    }
}
