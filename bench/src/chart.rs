//! A bar chart of ratios, as SVG. It has a background of its own, so that it can be read on dark pages, too.

use std::fmt::Write as _;

use crate::report::Ratio;

const WIDTH: u32 = 800;
const ROW: u32 = 26;
const TOP: u32 = 64;
const LABELS: f64 = 440.0;
/// Pixels of the largest maximum, beside which there is room for a figure.
const BARS: f64 = 300.0;

/// Draws a bar for each median, and a line from the minimum to the maximum.
pub(crate) fn draw(ratios: &[Ratio]) -> String {
    let height = TOP + ROW * u32::try_from(ratios.len()).unwrap_or_default() + 16;
    let medians: Vec<_> = ratios.iter().map(|ratio| format!("{} {:.2}", name(ratio), ratio.value.median)).collect();
    // The line at 1 is always there.
    let largest = ratios.iter().map(|ratio| ratio.value.max).fold(1.0, f64::max);
    let unit = BARS / largest;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title description" font-family="sans-serif" font-size="13">
<title id="title">What teleport-pipe needs, divided by what other clients need</title>
<desc id="description">Medians: {}. Below 1, teleport-pipe needs less.</desc>
<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>
<text x="16" y="26" fill="#1f2328" font-size="15" font-weight="bold">teleport-pipe divided by the other client</text>
<text x="16" y="46" fill="#57606a">Left of the line at 1, teleport-pipe needs less. Bars are medians; the line on each goes from minimum to maximum.</text>
"##,
        escape(&medians.join("; "))
    );
    for (number, ratio) in (0..).zip(ratios) {
        bar(&mut svg, TOP + ROW * number, unit, ratio);
    }
    let one = LABELS + unit;
    let bottom = height - 12;
    let _ = writeln!(svg, r##"<line x1="{one:.1}" y1="{}" x2="{one:.1}" y2="{bottom}" stroke="#1f2328"/>"##, TOP - 6);
    svg.push_str("</svg>\n");
    svg
}

fn name(ratio: &Ratio) -> String {
    format!("{} / {}", ratio.what, ratio.other)
}

fn bar(svg: &mut String, top: u32, unit: f64, ratio: &Ratio) {
    let x = |value: f64| LABELS + value * unit;
    let (min, median, max) = (x(ratio.value.min), x(ratio.value.median), x(ratio.value.max));
    // Not only the colour says which side of the line a bar ends on.
    let colour = if ratio.value.median <= 1.0 { "#1a7f37" } else { "#bc4c00" };
    let (middle, baseline) = (top + 9, top + 14);
    let _ = write!(
        svg,
        r##"<text x="{:.1}" y="{baseline}" text-anchor="end" fill="#1f2328">{}</text>
<rect x="{LABELS:.1}" y="{top}" width="{:.1}" height="18" fill="{colour}"/>
<line x1="{min:.1}" y1="{middle}" x2="{max:.1}" y2="{middle}" stroke="#1f2328" stroke-width="2"/>
<text x="{:.1}" y="{baseline}" fill="#1f2328">{:.2}</text>
"##,
        LABELS - 8.0,
        escape(&name(ratio)),
        median - LABELS,
        median.max(max) + 6.0,
        ratio.value.median,
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Summary;

    #[test]
    fn a_chart_has_a_bar_for_each_ratio() {
        let ratio = |what: &str, median| Ratio {
            what: what.to_owned(),
            other: "ssh",
            value: Summary { min: median / 2.0, median, max: median * 2.0 },
        };
        let svg = draw(&[ratio("a & b", 0.5), ratio("c", 2.0)]);
        assert!(svg.contains("<desc id=\"description\">Medians: a &amp; b / ssh 0.50; c / ssh 2.00."), "{svg}");
        assert!(svg.contains(r##"<rect x="440.0" y="64" width="37.5" height="18" fill="#1a7f37"/>"##), "{svg}");
        assert!(svg.contains(r##"<rect x="440.0" y="90" width="150.0" height="18" fill="#bc4c00"/>"##), "{svg}");
        // The largest maximum has the whole width.
        assert!(svg.contains(r##"<line x1="515.0" y1="99" x2="740.0" y2="99""##), "{svg}");
    }
}
