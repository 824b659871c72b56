"""The report as one HTML page: styles and pictures inside, no script, nothing from a network."""

import base64
import re
from collections.abc import Iterable, Sequence
from html import escape

from training.report.captions import CAPTIONS
from training.report.collapse import is_collapsed
from training.report.facts import (
    BaselineFacts,
    CalibrationFacts,
    DefectFacts,
    DriftFacts,
    Example,
    Examples,
    Facts,
    LatentFacts,
    ModelUse,
    NotChecked,
    RateCheck,
    TrendFacts,
)
from training.report.verdict import alarms_ahead, drifts, leads

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
img { max-width: 100%; height: auto; display: block }
figure { margin: 1rem 0 } figcaption { color: #444; max-width: 50rem } summary { cursor: pointer }
table { border-collapse: collapse; margin: .7rem 0; font-size: .9rem } .wide { overflow-x: auto }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.verdict { padding: .8rem 1.2rem; border-left: .5rem solid; margin: 1.2rem 0 }
.ship { border-color: #009E73; background: #e8f6f1 } .no { border-color: #D55E00; background: #fdeee6 }
.undecided { border-color: #E69F00; background: #fdf6e3 }
.note { color: #666 } .bad { color: #A33F00; font-weight: 600 }
"""

MOST_COLUMNS = 5
NUMBER = r"[+-]?[\d.]+(e-\d+)?( (of|to) \d+)?( \(.*\))?"


def build_page(facts: Facts, pictures: dict[str, bytes]) -> bytes:
    """The page in UTF-8; each picture has one plain sentence under it."""
    sections = (
        ("Learning", _pictures(pictures, "learning.png") or _note("the model was solved at once, without steps")),
        ("Does the model use its latent?", _collapse(facts) + _pictures(pictures, "latent.png")),
        ("Which defects are found?", _defects(facts.defects, pictures)),
        ("Does the false-alarm rate hold?", _calibration(facts.calibration, pictures)),
        ("Do the data change along the file?", _trend(facts.trend) + _drift(facts.drift, pictures)),
        ("Scores of normal items", _pictures(pictures, "scores.png")),
        ("Is a simpler method better?", _baselines(facts.baselines, pictures)),
        ("Typical and surprising normals", _examples(facts.examples, pictures)),
        ("What is explained, feature by feature", _features(facts, pictures)),
        ("Has the latent space holes?", _latent(facts.latent) + _pictures(pictures, "continuity.png")),
    )
    body = "".join(f"<section><h2>{escape(title)}</h2>{content}</section>" for title, content in sections if content)
    title = f"Report of {facts.model}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f'<p class="note">version {escape(facts.version)}, default alpha {facts.alpha:g}; the report took '
        f"{facts.seconds:.0f} s</p>{_verdict(facts)}{body}</body></html>"
    ).encode()


def _verdict(facts: Facts) -> str:
    verdict = facts.verdict
    unchecked = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in verdict.unchecked.items())
    rest = f"<p>Not checked:</p><ul>{unchecked}</ul>" if unchecked else ""
    if verdict.ship:
        return (
            f'<div class="verdict ship"><strong>Ship.</strong> Nothing that was checked speaks against it.{rest}</div>'
        )
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in verdict.because)
    look, state = ("no", "Do not ship") if verdict.reasons else ("undecided", "Undecided")
    return f'<div class="verdict {look}"><strong>{state}</strong>, because<ul>{reasons}</ul>{rest}</div>'


def _collapse(facts: Facts) -> str:
    uses: list[ModelUse] | NotChecked = facts.collapse
    if isinstance(uses, NotChecked):
        return _not_checked(uses)
    rows = []
    for use in uses:
        if isinstance(use.nets, NotChecked):
            rows.append([use.name, "", "", "", "", f"not applicable: {use.nets.because}"])
            continue
        word = "collapsed" if is_collapsed(use) else "in use"
        for i, net in enumerate(use.nets, 1):
            units = f"{sum(net.active)} of {len(net.active)}"
            rows.append([use.name, str(i), units, f"{sum(net.kl):.2f}", f"{net.worth:.2f}", word])
    header = ("model", "net", "active units", "KL (nats an item)", "worth of the code (nats an item)", "")
    text = (
        "A VAE whose decoder ignores the code has collapsed: it finds every item equally likely. The worth is what the "
        "decoder loses when it is given the code of another item; it must be clearly above 0."
    )
    if facts.independent_columns:
        text += (
            " No two columns of these data depend on each other: there is nothing to encode, and a collapse is right."
        )
    return f"<p>{text}</p>" + _table(header, rows)


def _calibration(found: CalibrationFacts | NotChecked, pictures: dict[str, bytes]) -> str:
    if isinstance(found, NotChecked):
        return _not_checked(found)
    broken = len(found.broken)
    word = f'<p class="bad">{broken} counts are outside of what is allowed.</p>' if broken else "<p>It does.</p>"
    text = (
        f"Blocks are {escape(found.by)}: shuffled ones would agree by construction and test nothing. "
        "Allowed is what a kept promise produces, so wide that one report in a thousand is a false one "
        "(beta-binomial); for all blocks together it is the 95 % interval of one fresh set, to read, not to judge by."
    )
    pictured = _pictures(pictures, "rates.png", "p_values.png")
    every = _rates([*found.blocks, *found.validation])
    shown = _rates([*found.overall, *found.broken])
    return f"{word}<p>{text}</p>{pictured}{shown}<details><summary>Every count</summary>{every}</details>"


def _rates(checks: Sequence[RateCheck]) -> str:
    header = ("block, or score on the validation part", "alpha", "alarms", "rate", "allowed", "")
    return _table(header, [_rate(check) for check in checks])


def _rate(check: RateCheck) -> list[str]:
    alarms, allowed = f"{check.alarms} of {check.items}", f"{check.low} to {check.high}"
    mark = "" if check.as_promised else "outside"
    if check.as_promised and check.alarms < check.low:
        mark = f"{check.tied} more tie with the threshold"
    return [check.what, f"{check.alpha:g}", alarms, f"{check.rate:.4f}", allowed, mark]


def _trend(found: TrendFacts | NotChecked) -> str:
    if isinstance(found, NotChecked):
        return _note(f"alarms on later rows were not counted, because {found.because}")
    check = found.check
    bad = alarms_ahead(found) or bool(found.growing)
    word = '<p class="bad">They do.</p>' if bad else "<p>Its last tenth looks like what comes before.</p>"
    columns = [
        *found.growing[:MOST_COLUMNS],
        *([found.moved] if found.moved and found.moved not in found.growing else []),
    ]
    rows = [
        [
            column.name,
            f"{column.correlation:+.3f}",
            "" if column.p_value is None else f"{column.p_value:.2g}",
            f"{column.shift:+.3f}",
            "outside" if column in found.growing else "",
        ]
        for column in columns
    ]
    header = (
        "column",
        "rank correlation with the place",
        "chance of it in random order",
        "shift of the last tenth",
        "",
    )
    return (
        f"{word}<p>The distance to the 5th nearest of {found.trained:,} rows, with a threshold from "
        f"{found.calibrated:,} others, all from the first 80 % of the file, alarms on {check.alarms:,} of "
        f"{check.items:,} rows of the last tenth at alpha = {check.alpha:.3g}; at most {check.high:,} are allowed (1 "
        f"in 2,000 of files in random order has more). A column counts as rising or falling where the chance is below "
        f"0.0005 and the correlation at least 0.2. The shift of its mean is in standard deviations of the rows "
        f"before.</p>{_table(header, rows)}"
    )


def _drift(found: DriftFacts | NotChecked, pictures: dict[str, bytes]) -> str:
    if isinstance(found, NotChecked):
        return _note(f"scores along the file were not compared, because {found.because}")
    word = '<p class="bad">The scores change.</p>' if drifts(found) else "<p>The scores show no sign of it.</p>"
    return (
        f"{word}<p>The held-out verdict scores of the first third of the data ({found.items} items, median "
        f"{found.first_median:.4g}) and of the last third (median {found.last_median:.4g}): the chance of such a "
        f"difference without drift is {found.kolmogorov_smirnov_p:.3g} (Kolmogorov-Smirnov) and "
        f"{found.mann_whitney_p:.3g} (Mann-Whitney); below 0.001 it counts. The order is that of the rows, or of the "
        f"file names.</p>{_pictures(pictures, 'drift.png')}"
    )


def _defects(found: DefectFacts | NotChecked | None, pictures: dict[str, bytes]) -> str:
    """Nothing where no defects came with the training data."""
    if found is None:
        return ""
    if isinstance(found, NotChecked):
        return _not_checked(found)
    normals = (
        f"{found.false_alarms} of {found.normals} good pictures beside them raise a false alarm; a kept promise allows "
        f"{found.low} to {found.high} in 999 of 1,000 cases (beta-binomial)."
        if found.normals
        else "There are no good pictures beside them."
    )
    text = (
        f"Pictures that came with the training data and took no part in it. At alpha = {found.alpha:g} "
        f"{found.found} of {found.items} defects raise an alarm. {normals} AUROC is the chance that a defect scores "
        "above a good picture; pixel AUROC, over the pixels of the same pictures, that a place of a defect is hotter "
        "on the heat map than another. The kinds that are found worst stand first."
    )
    every = [one.pixel_auroc for one in found.kinds]
    rows = [
        [kind, str(items), _rate_text(alarms, items), f"{area:.4f}", "" if pixel is None else f"{pixel:.4f}"]
        for kind, items, alarms, area, pixel in [
            *((one.kind, one.items, one.found, one.auroc, one.pixel_auroc) for one in found.kinds),
            ("all", found.items, found.found, found.auroc, found.pixel_auroc),
        ]
    ]
    header = ("kind of defect", "pictures", f"alarms at alpha = {found.alpha:g}", "AUROC", "pixel AUROC")
    shown = slice(None) if any(pixel is not None for pixel in every) else slice(-1)
    left_out = "".join(_note(sentence) for sentence in found.left_out)
    table = _table(header[shown], [row[shown] for row in rows])
    return f"<p>{escape(text)}</p>{table}{left_out}{_pictures(pictures, 'defects.png')}"


def _rate_text(alarms: int, items: int) -> str:
    return f"{alarms} of {items} ({100 * alarms / items:.0f} %)"


def _baselines(found: BaselineFacts | NotChecked, pictures: dict[str, bytes]) -> str:
    if isinstance(found, NotChecked):
        return _not_checked(found)
    kinds = list(found.by_kind)
    rows = [["elbound", f"{found.auroc:.4f}", "", *(f"{found.by_kind[kind]:.3f}" for kind in kinds), ""]]
    for rival in found.rivals:
        lead = f"{rival.lead:+.4f} ({rival.low:+.4f} to {rival.high:+.4f})"
        blocks = ", leads" if leads(rival, synthetic=found.synthetic) else ""
        by_kind = (f"{rival.by_kind[kind]:.3f}" for kind in kinds)
        rows.append([rival.name, f"{rival.auroc:.4f}", lead, *by_kind, rival.note + blocks])
    rows += [[name, "", "", *("" for _ in kinds), f"not checked, because {why}"] for name, why in found.skipped.items()]
    origin = (
        "made from held-out normals. They rank methods and do not estimate the AUROC on the anomalies that will come"
        if found.synthetic
        else "given with --anomalous, or the defects that came with the data"
    )
    text = (
        f"{found.normals:,} held-out normals and {found.anomalies:,} anomalies, {origin}. AUROC is the chance that an "
        f"anomaly scores above a normal item: 0.5 is guessing, 1 is perfect. In brackets the interval of the lead."
    )
    header = ("method", "AUROC", "lead over elbound", *kinds, "what it had")
    return f"<p>{text}</p>" + _pictures(pictures, "baselines.png") + _table(header, rows)


def _examples(found: Examples | NotChecked, pictures: dict[str, bytes]) -> str:
    if isinstance(found, NotChecked):
        return _not_checked(found)
    if not any(example.cells for example in (*found.typical, *found.worst)):
        return _pictures(pictures, "typical.png", "worst.png")
    return (
        "<p>Rows by their place in the data, counted from 0, with the columns that differ most from what the model "
        "expects. If the surprising ones are not normal, take their like out of the training data.</p>"
        f"<h3>Typical</h3>{_rows(found.typical)}<h3>Surprising</h3>{_rows(found.worst)}"
    )


def _rows(examples: Iterable[Example]) -> str:
    rows = []
    for example in examples:
        cells = "; ".join(f"{name} {seen} (expected {wanted})" for name, seen, wanted in example.cells)
        rows.append([str(example.item), f"{example.p_value:.3g}", cells])
    return _table(("row", "p-value", "seen and expected"), rows)


def _features(facts: Facts, pictures: dict[str, bytes]) -> str:
    shown = _pictures(pictures, "features.png", "errors.png")
    if not shown and isinstance(facts.features, NotChecked):
        return _not_checked(facts.features)
    return shown


def _latent(found: LatentFacts | NotChecked) -> str:
    if isinstance(found, NotChecked):
        return _not_checked(found)
    return _table(
        ("decoded codes", "share above the 99 % quantile of normals", "AUROC against normals"),
        [
            ["samples of the prior (completeness)", f"{found.prior_above:.3f}", f"{found.prior_auroc:.3f}"],
            ["between two normals (continuity)", f"{found.between_above:.3f}", f"{found.between_auroc:.3f}"],
        ],
    ) + (
        "<p>A share near 0.01 is that of normals themselves. Decoded items carry no noise, so they usually surprise "
        "less than real ones (AUROC below 0.5); a share far above 0.01 says that the model can imagine items in which "
        "it does not believe.</p>"
    )


def _pictures(pictures: dict[str, bytes], *names: str) -> str:
    return "".join(
        f'<figure><img alt="{escape(CAPTIONS[name])}" src="data:image/png;base64,'
        f'{base64.b64encode(pictures[name]).decode()}"><figcaption>{escape(CAPTIONS[name])}</figcaption></figure>'
        for name in names
        if name in pictures
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cell(tag: str, text: str) -> str:
        number = re.fullmatch(NUMBER, text) is not None
        mark = ' class="bad"' if text in ("outside", "collapsed") else ' class="number"' if number else ""
        return f"<{tag}{mark}>{escape(text)}</{tag}>"

    head = "".join(f"<th>{escape(text)}</th>" for text in header)
    body = "".join(f"<tr>{''.join(cell('td', text) for text in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _not_checked(why: NotChecked) -> str:
    return _note(f"not checked, because {why.because}")


def _note(text: str) -> str:
    return f'<p class="note">{escape(text[0].upper() + text[1:])}.</p>'
