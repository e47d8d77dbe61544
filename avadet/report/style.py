"""The look of the report: one style sheet, no scripts, no fonts from outside."""

from __future__ import annotations

STYLE = """
:root { --ink:#1d2733; --soft:#5b6775; --line:#dde3ea; --paper:#ffffff; --ground:#f4f6f9;
  --a:#1f6feb; --b:#d9730d; --good:#1a7f4b; --bad:#c6342c; --warn:#8a5a00; --warnbg:#fff6e0; }
@media (prefers-color-scheme: dark) { :root { --ink:#e4e9ef; --soft:#9aa7b4; --line:#303a46;
  --paper:#171d24; --ground:#0f1318; --a:#5ea1ff; --b:#f0a35e; --good:#57c98a; --bad:#ff7b72;
  --warn:#f0c674; --warnbg:#2d2610; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--ground); color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
main { max-width:1080px; margin:0 auto; padding:16px; }
header { padding:8px 4px 0; }
h1 { font-size:1.5rem; margin:0 0 4px; } h2 { font-size:1.15rem; margin:0 0 4px; }
h3 { font-size:.95rem; margin:0 0 6px; overflow-wrap:anywhere; }
p { margin:0 0 10px; } .soft { color:var(--soft); font-size:.9rem; }
nav { display:flex; flex-wrap:wrap; gap:4px 14px; margin:8px 0 16px; font-size:.9rem; }
a { color:var(--a); text-decoration:none; } a:hover { text-decoration:underline; }
section { background:var(--paper); border:1px solid var(--line); border-radius:10px;
  padding:16px; margin:0 0 16px; }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(150px,1fr)); gap:10px; }
.tile { border:1px solid var(--line); border-radius:8px; padding:10px 12px; }
.tile b { display:block; font-size:1.6rem; line-height:1.2; font-variant-numeric:tabular-nums; }
.tile.main b { font-size:2.1rem; color:var(--a); }
.note { background:var(--warnbg); color:var(--warn); border-radius:8px; padding:8px 12px;
  margin:0 0 8px; overflow-wrap:anywhere; }
.scroll { overflow-x:auto; }
table { border-collapse:collapse; width:100%; font-size:.9rem; }
th,td { text-align:left; padding:5px 8px; border-bottom:1px solid var(--line); }
th { color:var(--soft); font-weight:600; }
td.n,th.n { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap; }
.bars { display:grid; grid-template-columns:minmax(0,15rem) minmax(0,1fr) auto; gap:3px 10px;
  align-items:center; font-size:.87rem; }
.bars .name { overflow:hidden; text-overflow:ellipsis; white-space:nowrap; }
.bars .value { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap; }
.bars .value i { color:var(--soft); font-style:normal; font-size:.8rem; }
.track { background:var(--ground); border-radius:4px; overflow:hidden; }
.track span { display:block; height:10px; background:var(--a); border-radius:4px; min-width:1px; }
.track span.b { background:var(--b); height:6px; margin-top:1px; }
.columns .bars { grid-template-columns:minmax(0,9.5rem) minmax(0,1fr) auto; }
.columns { display:grid; grid-template-columns:repeat(auto-fit,minmax(270px,1fr)); gap:18px; }
.charts { display:grid; grid-template-columns:repeat(auto-fill,minmax(150px,1fr)); gap:12px; }
.chart svg { width:100%; height:auto; display:block; }
.chart p { font-size:.78rem; margin:2px 0 0; line-height:1.3; overflow-wrap:anywhere; }
.frames { display:grid; grid-template-columns:repeat(auto-fill,minmax(290px,1fr)); gap:16px; }
.frame svg { width:100%; height:auto; display:block; border-radius:6px; background:#3a434e; }
.frame ul { margin:6px 0 0; padding-left:18px; font-size:.82rem; }
.good { color:var(--good); } .bad { color:var(--bad); } .up::before { content:"+"; }
.key { display:inline-block; width:12px; height:12px; border-radius:3px; vertical-align:-1px;
  margin:0 4px 0 10px; }
details summary { cursor:pointer; color:var(--a); margin:6px 0; }
@media (max-width:560px) { main { padding:8px; } section { padding:12px; }
  .bars { grid-template-columns:minmax(0,8.5rem) minmax(0,1fr) auto; font-size:.8rem; }
  .charts { grid-template-columns:repeat(2,1fr); } .tile.main b { font-size:1.8rem; }
  .frames { grid-template-columns:1fr; } th,td { padding:4px 5px; } table { font-size:.82rem; } }
"""
