//! Agreement of two raters, e.g. the oracle and a person.

use crate::StatsError;

/// Cohen's kappa (1960) of a square table: `table[a][b]` items got label `a` from the first rater
/// and `b` from the second. 1 is full agreement, 0 what their label shares alone would give.
pub fn kappa(table: &[Vec<u64>]) -> Result<f64, StatsError> {
    if let Some(row) = table.iter().find(|row| row.len() != table.len()) {
        let (left, right) = (table.len(), row.len());
        return Err(StatsError::Unpaired { what: "labels of two raters", left, right });
    }
    let n: u64 = table.iter().flatten().sum();
    if n == 0 {
        return Err(StatsError::NoTrials { what: "kappa" });
    }
    let share = |count: u64| count as f64 / n as f64;
    let observed: f64 = table.iter().enumerate().map(|(i, row)| share(row[i])).sum();
    let expected: f64 = (0..table.len())
        .map(|i| {
            let second: u64 = table.iter().map(|row| row[i]).sum();
            share(table[i].iter().sum()) * share(second)
        })
        .sum();
    if expected >= 1.0 {
        return Err(StatsError::OneLabel);
    }
    Ok((observed - expected) / (1.0 - expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_by_construction_has_no_kappa() {
        assert_eq!(kappa(&[vec![40, 0], vec![0, 0]]), Err(StatsError::OneLabel));
        assert_eq!(kappa(&[vec![0]]), Err(StatsError::NoTrials { what: "kappa" }));
        assert!(kappa(&[vec![1, 2]]).is_err());
    }

    #[test]
    fn independent_raters_have_kappa_zero() {
        assert!(kappa(&[vec![10, 20], vec![20, 40]]).unwrap().abs() < 1e-15);
        assert_eq!(kappa(&[vec![3, 0], vec![0, 5]]).unwrap(), 1.0);
    }
}
