//! Chats as text, by the model's own Jinja template, rendered as transformers renders it: block tags
//! swallow their line (`trim_blocks`, `lstrip_blocks`), `raise_exception` and `tojson` are there,
//! `tools` and `documents` are none. Using an unknown variable is an error except in a test
//! (`{% if tools_in_user_message %}`), and a template cannot run for ever (fuel).

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, from_args};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, context};

use forwhy_core::chat::Message;

/// Instructions a template may execute in one rendering: far above any real template and chat.
const FUEL: u64 = 10_000_000;

/// A compiled chat template.
pub struct Template {
    env: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

/// A template that does not compile, or refuses a chat.
#[derive(Debug, thiserror::Error)]
#[error("the chat template of the model: {what}: {source}")]
pub struct RenderError {
    what: &'static str,
    #[source]
    source: Error,
}

impl Template {
    /// Compiles `source`; `bos` and `eos` are the texts of the tokens that templates name so.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, RenderError> {
        let fail = |source| RenderError { what: "cannot be compiled", source };
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(fail)?);
        env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        env.set_fuel(Some(FUEL));
        env.set_unknown_method_callback(python_method);
        env.add_function("raise_exception", raise_exception);
        env.add_filter("tojson", to_json);
        env.add_template_owned("chat", source.to_string()).map_err(fail)?;
        Ok(Template { env, source: source.into(), bos: bos.into(), eos: eos.into() })
    }

    /// The template's own text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The chat as text, with the opening of an assistant turn at its end if asked for.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, RenderError> {
        let fail = |source| RenderError { what: "refuses this chat", source };
        let turns: Vec<Value> = messages
            .iter()
            .map(|m| context! { role => m.role.as_str(), content => m.content.as_str() })
            .collect();
        let variables = context! {
            messages => turns,
            add_generation_prompt,
            tools => Value::from(()),
            documents => Value::from(()),
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        self.env.get_template("chat").and_then(|t| t.render(variables)).map_err(fail)
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// JSON as transformers writes it: Python's separators, no HTML escapes, non-ASCII kept.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let fail = |e: serde_json::Error| Error::new(ErrorKind::BadSerialization, e.to_string());
    let value = serde_json::to_value(value).map_err(fail)?;
    let mut text = String::new();
    write_json(&value, indent, 0, &mut text);
    Ok(Value::from_safe_string(text))
}

fn write_json(value: &serde_json::Value, indent: Option<usize>, depth: usize, out: &mut String) {
    use serde_json::Value as Json;
    let (open, close, items): (_, _, Vec<(Option<&String>, &Json)>) = match value {
        Json::Array(items) => ('[', ']', items.iter().map(|v| (None, v)).collect()),
        Json::Object(map) => ('{', '}', map.iter().map(|(k, v)| (Some(k), v)).collect()),
        plain => return out.push_str(&plain.to_string()),
    };
    let line = |depth: usize| indent.map(|n| format!("\n{}", " ".repeat(n * depth)));
    out.push(open);
    for (i, (key, item)) in items.iter().enumerate() {
        match line(depth + 1) {
            Some(new_line) => out.push_str(&(if i > 0 { "," } else { "" }.to_string() + &new_line)),
            None if i > 0 => out.push_str(", "),
            None => {}
        }
        if let Some(key) = key {
            out.push_str(&Json::from(key.as_str()).to_string());
            out.push_str(": ");
        }
        write_json(item, indent, depth + 1, out);
    }
    if let Some(new_line) = line(depth).filter(|_| !items.is_empty()) {
        out.push_str(&new_line);
    }
    out.push(close);
}

/// The methods of Python's `str` and `dict` that chat templates call.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let unknown = || Error::from(ErrorKind::UnknownMethod);
    let Some(text) = value.as_str() else {
        return match method {
            "items" => state.apply_filter("items", std::slice::from_ref(value)),
            "get" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                let found = value.get_item(&key)?;
                let default = default.unwrap_or(Value::from(()));
                Ok(if found.is_undefined() { default } else { found })
            }
            _ => Err(unknown()),
        };
    };
    let plain = match method {
        "upper" => text.to_uppercase(),
        "lower" => text.to_lowercase(),
        "strip" | "lstrip" | "rstrip" => strip(text, method, args)?,
        "replace" => {
            let (from, to): (&str, &str) = from_args(args)?;
            text.replace(from, to)
        }
        "startswith" => return from_args(args).map(|(s,): (&str,)| text.starts_with(s).into()),
        "endswith" => return from_args(args).map(|(s,): (&str,)| text.ends_with(s).into()),
        "split" => {
            let (border,): (Option<&str>,) = from_args(args)?;
            return Ok(match border {
                Some(border) => text.split(border).map(Value::from).collect(),
                None => text.split_whitespace().map(Value::from).collect(),
            });
        }
        _ => return Err(unknown()),
    };
    Ok(plain.into())
}

fn strip(text: &str, method: &str, args: &[Value]) -> Result<String, Error> {
    let (set,): (Option<&str>,) = from_args(args)?;
    let inside = |c: char| set.map_or(c.is_whitespace(), |set| set.contains(c));
    let text = if method == "rstrip" { text } else { text.trim_start_matches(inside) };
    Ok(if method == "lstrip" { text } else { text.trim_end_matches(inside) }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> Result<String, RenderError> {
        let chat = [Message::user("  a<b \"c\" ü "), Message::assistant("d")];
        Template::new(template, "<s>", "</s>").unwrap().render(&chat, true)
    }

    /// The cases of `scripts/templates.py`.
    fn fixture() -> serde_json::Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/templates.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn messages(case: &serde_json::Value) -> Vec<Message> {
        serde_json::from_value(case["messages"].clone()).unwrap()
    }

    #[test]
    fn templates_give_the_text_of_transformers() {
        for case in fixture()["cases"].as_array().unwrap() {
            let source = case["template"].as_str().unwrap();
            let template = Template::new(source, "<s>", "</s>").unwrap();
            for render in case["renders"].as_array().unwrap() {
                let prompt = render["prompt"].as_bool().unwrap();
                let got = template.render(&messages(render), prompt);
                let want = render["text"].as_str().unwrap();
                assert_eq!(got.unwrap(), want, "{} of {}", case["name"], render["messages"]);
            }
        }
    }

    #[test]
    fn what_transformers_refuses_is_refused() {
        let fixture = fixture();
        let refused = &fixture["refused"];
        let mut cases = fixture["cases"].as_array().unwrap().iter();
        let strict = cases.find(|case| case["name"] == refused["template"]).unwrap();
        let template = Template::new(strict["template"].as_str().unwrap(), "<s>", "</s>").unwrap();
        let error = template.render(&messages(refused), false).unwrap_err().to_string();
        assert!(error.contains(refused["error"].as_str().unwrap()), "{error}");
    }

    #[test]
    fn python_methods_and_slices_work() {
        let template = "{{ messages[0].content.strip() }}|{{ messages[1:][0]['content'].upper() }}|\
            {{ 'a,b'.split(',')[-1] }}|{{ messages[0].get('name', 'no') }}|{{ 'x'.replace('x', 'y') }}";
        assert_eq!(render(template).unwrap(), "a<b \"c\" ü|D|b|no|y");
    }

    #[test]
    fn a_template_may_refuse_and_says_why() {
        let error = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert!(error.to_string().contains("roles must alternate"), "{error}");
    }

    #[test]
    fn unknown_variables_are_errors_but_may_be_tested() {
        assert_eq!(render("{% if nowhere %}x{% endif %}{% if tools %}y{% endif %}").unwrap(), "");
        assert!(render("{{ nowhere }}").is_err());
        assert!(render("{{ messages[0].nowhere }}").is_err());
    }

    #[test]
    fn a_template_that_never_ends_runs_out_of_fuel() {
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        assert!(render(endless).unwrap_err().to_string().contains("fuel"));
    }
}
