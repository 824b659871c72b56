"""One plain sentence for each picture, for people who have never met the terms."""

CAPTIONS = {
    "learning.png": (
        "Reconstruction is how badly the model explains an item from its own code, KL how much that code says beyond "
        "what is common to all items; the validation ELBO (right, larger is better) should end flat. The KL is meant "
        "to start high and settle: its weight comes in over the first fifth of the steps."
    ),
    "latent.png": (
        "Each bar is one number of the code: how many nats it tells about an item. Blue ones differ from item to item, "
        "grey ones are switched off. All grey is a collapse; some grey is thrift."
    ),
    "p_values.png": (
        "For normal items every p-value is as likely as any other, so both pictures should be flat; a peak at the left "
        "is too many false alarms, a dip too few."
    ),
    "rates.png": (
        "Each dot is one block of held-out normals, judged by thresholds from the other blocks; it should lie within "
        "its grey bar, which is as long as chance allows."
    ),
    "drift.png": (
        "Each dot is one held-out normal item, from the first of the data to the last; the line is the median of a "
        "stretch and should stay level."
    ),
    "scores.png": "What lies right of a line would have been a false alarm at that rate.",
    "baselines.png": (
        "Each dot says how much better a simpler method separates anomalies from normals than elbound; a bar that "
        "reaches across 0 is undecided."
    ),
    "features.png": (
        "Short bars are columns that follow from the others; a bar near 1 is a column that the model can only guess, "
        "and in which only values far out will be noticed."
    ),
    "continuity.png": (
        "Codes that no item has are decoded and scored: where they surprise no more than normals, the latent space has "
        "no holes."
    ),
    "typical.png": (
        "Ordinary held-out normals. Where there is a row of what the model expects, it should look like them; colours "
        "on the heat map are places that would be rare among normal items."
    ),
    "worst.png": (
        "The held-out normals that surprise most. If these are not normal, take their like out of the training data."
    ),
    "defects.png": (
        "A typical picture of each kind of defect, the kinds that are found worst first, with its p-value; colours on "
        "the heat map should lie on the defect."
    ),
    "errors.png": "Where in the picture normals are hard to predict: bright places vary, dark ones are certain.",
}
