/// The page's style sheet: light and dark by the reader's own setting. Hues are those of Okabe and
/// Ito, which people who confuse red and green can tell apart.
package enum PageStyle {
    package static let text = """

        :root { color-scheme: light dark; --page: #fff; --ink: #1b1f24; --faint: #59636e;
          --rule: #d1d9e0; --whole: #8a8f98; --a: #e69f00; --b: #cc79a7;
          --c: #56b4e9; --d: #009e73; --d-net: #0072b2;
          --bad: #c03b00; --shade: #f6f8fa; }
        @media (prefers-color-scheme: dark) {
          :root { --page: #12161b; --ink: #e6e9ed; --faint: #9aa4af; --rule: #39424c;
            --whole: #8a8f98; --d: #19c294; --d-net: #4a9fe0;
            --bad: #ff8a4c; --shade: #1a2027; } }
        body { margin: 0; background: var(--page); color: var(--ink);
          font: 15px/1.5 system-ui, sans-serif; }
        main { max-width: 1000px; margin: 0 auto; padding: 24px 20px 60px; }
        h1 { font-size: 26px; line-height: 1.2; margin: 0 0 12px; }
        h2 { font-size: 19px; margin: 40px 0 4px; }
        p { margin: 4px 0 12px; max-width: 75ch; }
        dl { display: grid; grid-template-columns: fit-content(38%) 1fr; gap: 2px 14px;
          font-size: 13px; margin: 12px 0; }
        dt { color: var(--faint); }
        dd { margin: 0; overflow-wrap: anywhere; }
        ul { font-size: 13px; padding-left: 18px; }
        figure { margin: 14px 0 26px; }
        figcaption { font-weight: 600; margin-bottom: 6px; }
        .panels { display: flex; flex-wrap: wrap; gap: 16px 26px; align-items: flex-start; }
        .panel { max-width: 100%; }
        h4 { font-size: 13px; line-height: 1.3; margin: 0 0 4px; overflow-wrap: anywhere; }
        .legend { font-size: 12px; color: var(--faint); margin: 0 0 8px; }
        .legend span { margin-right: 16px; }
        .legend svg { display: inline-block; margin-right: 5px; vertical-align: -1px; }
        svg { display: block; max-width: 100%; height: auto; font: 12px system-ui, sans-serif; }
        svg text { fill: var(--ink); }
        svg .figure { fill: var(--faint); }
        svg .axis { stroke: var(--rule); }
        svg .whisker { stroke: var(--ink); stroke-width: 1; }
        svg .quartiles { stroke: var(--ink); stroke-width: 3; }
        svg .ink { fill: var(--faint); }
        svg .own { fill: var(--d); }
        svg .peer { fill: var(--whole); }
        svg .second { fill: var(--d-net); }
        svg .bad { fill: var(--bad); }
        .m-whole { fill: var(--whole); }
        .m-a { fill: var(--a); }
        .m-b { fill: var(--b); }
        .m-c { fill: var(--c); }
        .m-d { fill: var(--d); }
        .m-d-net { fill: var(--d-net); }
        svg .curve { fill: none; stroke-width: 1.8; stroke: var(--faint); }
        svg .curve.m-whole { stroke: var(--whole); }
        svg .curve.m-a { stroke: var(--a); }
        svg .curve.m-b { stroke: var(--b); }
        svg .curve.m-c { stroke: var(--c); }
        svg .curve.m-d { stroke: var(--d); }
        svg .curve.m-d-net { stroke: var(--d-net); }
        svg .dash1 { stroke-dasharray: 6 3; }
        svg .dash2 { stroke-dasharray: 2 3; }
        svg .dash3 { stroke-dasharray: 8 3 2 3; }
        svg .part1 { fill-opacity: 0.6; }
        svg .part2 { fill-opacity: 0.3; }
        .wide { overflow-x: auto; margin: 12px 0; }
        table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
        th, td { text-align: right; padding: 2px 10px; vertical-align: top; }
        th { font-weight: 400; }
        tr > th:first-child { text-align: left; }
        thead th, .group th { font-weight: 600; }
        thead th { border-bottom: 2px solid var(--rule); }
        .group th { padding-top: 12px; border-bottom: 1px solid var(--rule); }
        .partial { padding-left: 26px; color: var(--faint); }
        td small { display: block; color: var(--faint); font-size: 10.5px; line-height: 1.2; }
        section { border-top: 2px solid var(--rule); margin-top: 48px; }
        section h2 { margin-top: 20px; }
        h3 { font-size: 15px; margin: 28px 0 4px; }
        a { color: inherit; }
        code { font: 12.5px/1.5 ui-monospace, monospace; }
        .bad, .warnings { color: var(--bad); }
        .tall { max-height: 520px; overflow: auto; border-bottom: 1px solid var(--rule); }
        .tall thead th { position: sticky; top: 0; }
        .sortable thead th { background: var(--page); vertical-align: bottom; }
        .sortable tbody tr:nth-child(even) { background: var(--shade); }
        .sortable .words { text-align: left; }
        .sortable .figures { white-space: nowrap; }
        .sortable td.words:first-child { min-width: 230px; }
        th small { display: block; color: var(--faint); font-size: 10.5px; font-weight: 400; }
        th button { all: unset; cursor: pointer; }
        th button:hover, th button:focus-visible { text-decoration: underline; }
        th[aria-sort=ascending] button::after { content: " \\25B2"; }
        th[aria-sort=descending] button::after { content: " \\25BC"; }

        """
}
