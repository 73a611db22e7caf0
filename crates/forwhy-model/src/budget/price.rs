//! Prices of tokens: the compiled-in table, or what the user says.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::{Cost, Usd};
use crate::wire::Usage;

/// The table; its own comments say where it comes from.
const TABLE: &str = include_str!("prices.toml");

/// What tokens of one model cost, in dollars per million.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens read.
    pub prompt: f64,
    /// Tokens written, thoughts included.
    pub completion: f64,
    /// Tokens read from the provider's cache; as `prompt` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<f64>,
    /// Tokens written to the provider's cache; as `prompt` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<f64>,
    /// Where the price comes from: the table's version, or the user.
    #[serde(default)]
    pub source: String,
}

impl Price {
    /// `IN/OUT` in dollars per million tokens, e.g. `0.4/1.6`, or `0/0` for a server of one's own.
    pub fn parse(text: &str) -> Result<Price, String> {
        let no = |why: String| format!("{text:?} is no price like 0.4/1.6: {why}");
        let (prompt, completion) = text.split_once('/').ok_or_else(|| no("no slash".into()))?;
        let amount = |t: &str| t.trim().parse::<f64>().map_err(|e| no(e.to_string()));
        let price = Price {
            prompt: amount(prompt)?,
            completion: amount(completion)?,
            cached: None,
            cache_write: None,
            source: "the user".into(),
        };
        price.check().map_err(no)?;
        Ok(price)
    }

    /// Refuses amounts that are no prices.
    pub fn check(&self) -> Result<(), String> {
        let all = [Some(self.prompt), Some(self.completion), self.cached, self.cache_write];
        match all.into_iter().flatten().find(|p| !(0.0..=1e6).contains(p)) {
            Some(wrong) => Err(format!("{wrong} dollars per million tokens is no price")),
            None => Ok(()),
        }
    }

    /// The most that a request can cost: a token has at least one byte, so its body's bytes bound the
    /// prompt, at the dearest of the prices of a prompt.
    pub fn worst(&self, body_bytes: usize, max_tokens: u64) -> Usd {
        let prompt = self.prompt.max(self.cache_write.unwrap_or(0.0));
        amount(body_bytes as u64, prompt).plus(amount(max_tokens, self.completion))
    }

    /// What a reply's usage says that it cost.
    pub fn of(&self, usage: &Usage) -> Cost {
        let cached = usage.cached_tokens.unwrap_or(0).min(usage.prompt_tokens);
        let rest = usage.prompt_tokens - cached;
        let written = usage.cache_write_tokens.unwrap_or(0).min(rest);
        let parts = [
            amount(rest - written, self.prompt),
            amount(cached, self.cached.unwrap_or(self.prompt)),
            amount(written, self.cache_write.unwrap_or(self.prompt)),
            amount(usage.completion_tokens, self.completion),
        ];
        Cost::known(parts.into_iter().sum())
    }

    /// The price of the same tokens in a batch, at `share` of the price.
    pub fn in_batch(&self, share: f64) -> Price {
        Price {
            prompt: self.prompt * share,
            completion: self.completion * share,
            cached: self.cached.map(|p| p * share),
            cache_write: self.cache_write.map(|p| p * share),
            source: format!("{}, in a batch", self.source),
        }
    }
}

/// Tokens at dollars per million, rounded up to a nanodollar.
fn amount(tokens: u64, per_million: f64) -> Usd {
    // Price tables have at most six decimals: picodollars a token are whole numbers.
    let pico = (per_million * 1e6).round() as u128;
    let nano = (u128::from(tokens) * pico).div_ceil(1000);
    Usd(u64::try_from(nano).unwrap_or(u64::MAX))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    version: String,
    source: String,
    batch_share: f64,
    price: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    host: String,
    models: Vec<String>,
    prompt: f64,
    completion: f64,
    cached: Option<f64>,
    cache_write: Option<f64>,
}

static PRICES: LazyLock<Option<Table>> = LazyLock::new(|| toml::from_str(TABLE).ok());

/// The table's version and where it comes from.
pub fn provenance() -> Option<(&'static str, &'static str)> {
    PRICES.as_ref().map(|t| (t.version.as_str(), t.source.as_str()))
}

/// Share of the price that a batch on one of the table's hosts costs; the full price elsewhere.
pub fn batch_share(host: &str) -> f64 {
    let table = PRICES.as_ref().filter(|t| t.price.iter().any(|row| row.host == host));
    table.map_or(1.0, |t| t.batch_share)
}

/// The list price of `model` on `host`, or `None`: unknown is not free.
pub fn find(host: &str, model: &str) -> Option<Price> {
    let table = PRICES.as_ref()?;
    let row = table
        .price
        .iter()
        .find(|row| row.host == host && row.models.iter().any(|name| is_snapshot(name, model)))?;
    Some(Price {
        prompt: row.prompt,
        completion: row.completion,
        cached: row.cached,
        cache_write: row.cache_write,
        source: format!("price table {}", table.version),
    })
}

/// `model` is `name`, or `name` with a date behind it.
fn is_snapshot(name: &str, model: &str) -> bool {
    match model.strip_prefix(name) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('-').is_some_and(|date| {
            let digits = date.replace('-', "");
            digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit())
        }),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_and_its_prices_are_prices() {
        let table: Table = toml::from_str(TABLE).unwrap();
        for row in &table.price {
            let price = find(&row.host, &row.models[0]).unwrap();
            price.check().unwrap();
            assert!(price.completion >= price.prompt, "{row:?}");
        }
        assert!(provenance().unwrap().1.contains("March 2026"));
    }

    #[test]
    fn fault_32_a_model_without_a_price_has_none() {
        let host = "api.openai.com";
        assert!(find(host, "gpt-4.1-mini-2025-04-14").unwrap().prompt < 1.0);
        for (host, model) in [
            (host, "gpt-9"),
            (host, "gpt-4.1-mini-turbo"),
            ("127.0.0.1", "gpt-4.1-mini"),
            (host, "gpt-4.1-mini-2025"),
        ] {
            assert_eq!(find(host, model), None, "{host} {model}");
        }
    }

    #[test]
    fn what_a_reply_cost_never_exceeds_its_reserve() {
        let price = find("api.anthropic.com", "claude-sonnet-4-5-20250929").unwrap();
        let usage = Usage {
            prompt_tokens: 1000,
            completion_tokens: 100,
            cached_tokens: Some(300),
            cache_write_tokens: Some(500),
            reasoning_tokens: None,
        };
        let cost = price.of(&usage).nano_usd;
        // 200 at 3, 300 at 0.3, 500 at 3.75, 100 at 15 dollars per million.
        assert_eq!(cost, Usd(600_000 + 90_000 + 1_875_000 + 1_500_000));
        assert!(price.worst(1000, 100) >= cost);
        assert_eq!(price.in_batch(0.5).of(&usage).nano_usd.0 * 2, cost.0);
    }

    #[test]
    fn a_price_of_the_user_is_checked() {
        assert_eq!(Price::parse("0/0").unwrap().worst(1 << 20, 4096), Usd(0));
        assert_eq!(Price::parse("1 / 2").unwrap().worst(1_000_000, 1_000_000), Usd(3_000_000_000));
        for wrong in ["", "1", "-1/2", "nan/1", "1/x"] {
            assert!(Price::parse(wrong).unwrap_err().contains("is no price"), "{wrong}");
        }
    }
}
