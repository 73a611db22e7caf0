"""Writes reference.tsv: figures by scipy and statsmodels that the crate must reproduce.

Run: python3 reference.py > reference.tsv   (scipy, statsmodels, numpy)
Each line: function, arguments, tab, expected values.
"""

import numpy as np
import scipy
import statsmodels
from scipy import optimize, special, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW


def line(name, args, *expected):
    print(name, " ".join(repr(float(a)) for a in args),
          " ".join(repr(float(e)) for e in expected), sep="\t")


print(f"# scipy {scipy.__version__}, statsmodels {statsmodels.__version__}, numpy {np.__version__}")
for x in (0.1, 0.5, 1.0, 3.5, 40.0, 1e5):
    line("ln_gamma", [x], special.gammaln(x))
for x, a, b in ((0.3, 2, 5), (0.9, 0.5, 0.5), (0.01, 37, 1200), (0.97, 400, 12), (0.5, 1e4, 1e4)):
    line("beta_cdf", [x, a, b], special.betainc(a, b, x))
for p, a, b in ((0.025, 3, 34), (0.975, 4, 33), (0.5, 0.7, 2.2)):
    line("beta_quantile", [p, a, b], special.betaincinv(a, b, p))
for z in (-6.0, -2.6, -1.0, 0.0, 0.3, 1.96, 4.0):
    line("normal_cdf", [z], stats.norm.cdf(z))
for p in (1e-6, 0.025, 0.2, 0.5, 0.8, 0.999):
    line("normal_quantile", [p], stats.norm.ppf(p))
for t, df in ((-3.2, 1), (0.7, 2), (2.2, 11), (2.2, 11.5), (-1.1, 200), (5.0, 3)):
    line("t_cdf", [t, df], stats.t.cdf(t, df))
for p, df in ((0.975, 1), (0.975, 2), (0.975, 11), (0.8, 5), (0.01, 30), (0.975, 5000)):
    line("t_quantile", [p, df], stats.t.ppf(p, df))
for t, df, nc in ((2.2, 11, 2.9), (-2.2, 11, 2.9), (2.0, 59, 2.8), (4.3, 2, 6.0), (12.7, 1, 20.0)):
    line("noncentral_t_cdf", [t, df, nc], stats.nct.cdf(t, df, nc))
for k, n in ((0, 36), (3, 36), (25, 36), (36, 36), (1, 7), (480, 1000)):
    line("wilson", [k, n, 0.95], *proportion_confint(k, n, 0.05, "wilson"))
    line("exact", [k, n, 0.95], *proportion_confint(k, n, 0.05, "beta"))
line("wilson", [7, 50, 0.9], *proportion_confint(7, 50, 0.1, "wilson"))
for n in (10, 36, 720):
    line("zero_excludes_above", [n, 0.95], stats.beta.ppf(0.95, 1, n))

kinds = [-0.30, 0.15, -0.06, -0.37, -0.11, -0.22, 0.05, -0.12, -0.18, -0.01, 0.04, -0.09]
d = DescrStatsW(kinds)
line("mean_over_clusters", kinds, np.mean(kinds), np.std(kinds, ddof=1),
     *d.tconfint_mean(0.05), d.ttest_mean(0)[1])
flip = stats.permutation_test((kinds,), np.mean, permutation_type="samples", n_resamples=np.inf)
line("sign_flip", kinds, flip.pvalue)
line("sign_flip", kinds[:6], stats.permutation_test(
    (kinds[:6],), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue)
for margin in (0.1, 0.2, 0.3):
    low = stats.ttest_1samp(kinds, -margin, alternative="greater").pvalue
    high = stats.ttest_1samp(kinds, margin, alternative="less").pvalue
    line("equivalence", [margin, *kinds], max(low, high))
for g in (2, 3, 7, 12, 60):
    # The far tail is left out where scipy's nct gives NaN: it is below 1e-12 there. (statsmodels'
    # TTestPower gives the same figures, to the 1e-7 at which its solver stops.)
    crit = stats.t.ppf(0.975, g - 1)
    short = lambda nc: (stats.nct.sf(crit, g - 1, nc) - 0.8
                        + np.nan_to_num(stats.nct.cdf(-crit, g - 1, nc)))
    shift = optimize.brentq(short, 0.5, 40, xtol=1e-13, rtol=1e-13)
    line("smallest_detectable", [0.16, g], 0.16 * shift / np.sqrt(g))
ps = [0.04, 0.001, 0.9, 0.03, 0.012, 0.03]
line("holm", ps, *multipletests(ps, method="holm")[1])
for a, b in ((0, 5), (3, 11), (8, 9), (20, 41)):
    line("mcnemar", [a, b], mcnemar([[0, a], [b, 0]], exact=True).pvalue)
table = [20, 5, 1, 4, 30, 2, 0, 3, 35]
line("kappa", table, cohens_kappa(np.array(table).reshape(3, 3)).kappa)

# Korn and Graubard (1998), written out with scipy's quantiles.
cells = [(6, 6), (1, 6), (4, 6), (0, 6), (5, 6), (2, 6), (3, 6), (6, 6), (0, 5), (2, 4)]
hits, trials = (np.array(v, float) for v in zip(*cells))
g, n, p = len(cells), trials.sum(), hits.sum() / trials.sum()
variance = g / (g - 1) * ((hits - p * trials) ** 2).sum() / n**2
deff = variance / (p * (1 - p) / n)
eff = min(n, n / deff * (stats.t.ppf(0.975, n - 1) / stats.t.ppf(0.975, g - 1)) ** 2)
line("clustered", [v for cell in cells for v in cell], p,
     stats.beta.ppf(0.025, p * eff, eff - p * eff + 1),
     stats.beta.ppf(0.975, p * eff + 1, eff - p * eff), deff)
