"""How the page looks: light and dark as the reader's system is, and on paper. No font, no picture from elsewhere."""

from __future__ import annotations

from stream.lab.plot_svg import STYLE as PLOT_STYLE

PAGE_STYLE = """
  :root { color-scheme: light dark; --paper: #ffffff; --card: #f6f8fa; --text: #1f2328; --soft: #57606a;
    --line: #d0d7de; --critical: #a40e26; --high: #bc4c00; --warning: #7d4e00; --info: #0550ae }
  @media (prefers-color-scheme: dark) {
    :root { --paper: #0d1117; --card: #161b22; --text: #e6edf3; --soft: #9198a1; --line: #30363d;
      --critical: #ff7b72; --high: #f0883e; --warning: #d29922; --info: #58a6ff }
  }
  * { box-sizing: border-box }
  body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--text);
    font: 15px/1.5 system-ui, sans-serif }
  h1 { font-size: 1.7rem; margin: 0 } h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem }
  h3 { font-size: 1rem; margin: 0 0 .6rem; display: flex; gap: .6rem; align-items: baseline; flex-wrap: wrap }
  p { margin: .4rem 0 } .soft, dt { color: var(--soft) } a { color: inherit }
  .id { font-family: ui-monospace, monospace; font-size: .93em; overflow-wrap: anywhere }
  .card { border: 1px solid var(--line); border-left: 4px solid var(--info); border-radius: 8px; padding: .6rem .8rem;
    background: var(--card); overflow-wrap: anywhere }
  .figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1.25rem 0 }
  .figures div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem }
  .figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums }
  dl { margin: .5rem 0 } dl div { display: grid; grid-template-columns: 9.5rem 1fr; gap: .75rem; padding: .12rem 0 }
  dt, dd { margin: 0; overflow-wrap: anywhere }
  .wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .93em; margin: .5rem 0 }
  th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
  th { color: var(--soft); font-weight: 500 } td .id { display: inline-block; min-width: 7rem; max-width: 24rem }
  .n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } .when { white-space: nowrap }
  article { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--mark);
    border-radius: 8px; padding: 1rem 1.1rem; margin: 1rem 0 }
  article svg { display: block; width: 100%; height: auto; margin-top: .8rem; border: 1px solid var(--line);
    border-radius: 8px }
  .severity { color: var(--mark); font-weight: 650; white-space: nowrap }
  .critical { --mark: var(--critical) } .high { --mark: var(--high) } .warning { --mark: var(--warning) }
  .info { --mark: var(--info) }
  @media (max-width: 40rem) { dl div { grid-template-columns: 1fr; gap: 0 } }
  @media print {
    body { max-width: none; padding: 0; font-size: 10.5pt } article, tr, svg { break-inside: avoid }
    h2, h3 { break-after: avoid } .wide { overflow: visible } a { text-decoration: none }
  }
"""
STYLE = PAGE_STYLE + PLOT_STYLE
