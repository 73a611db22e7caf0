//! Keys: sent to the host they are for, and found nowhere else.

use std::os::unix::fs::PermissionsExt as _;

use forwhy_model::ledger::event::Reason;
use forwhy_serve::mock::{Fault, FaultRule, Script};

use super::*;

const KEY: &str = "sk-test/a+b=9f8e7d6c5b4a39281706";

/// The key in every form in which it could stand in a file: plain, percent-encoded, in Base64, and
/// as the digits in which odd bytes are kept.
fn forms() -> Vec<Vec<u8>> {
    let percent: String = KEY
        .bytes()
        .map(|b| match b {
            b'/' | b'+' | b'=' => format!("%{b:02X}"),
            _ => char::from(b).to_string(),
        })
        .collect();
    let hex: String = KEY.bytes().map(|b| format!("{b:02x}")).collect();
    let base64 = "c2stdGVzdC9hK2I9OWY4ZTdkNmM1YjRhMzkyODE3MDY";
    [KEY, &percent, base64, &hex].map(|form| form.as_bytes().to_vec()).into()
}

fn keyed(trial: Trial) -> Trial {
    let path = trial.folder.path().join("key");
    forwhy_store::atomic::write(&path, KEY.as_bytes()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut trial = trial;
    for endpoint in &mut trial.spec.endpoints {
        endpoint.key_file = Some(path.clone());
    }
    trial
}

#[tokio::test]
async fn fault_33_a_key_is_found_in_no_record_error_or_event() {
    let echo = FaultRule { when: Some("item 1".into()), ..FaultRule::always(Fault::EchoKey) };
    let mock = playing(Script { key: Some(KEY.into()), ..Script::failing([echo]) });
    let trial = keyed(Trial::new(&[&mock]));
    let client = trial.client().await;
    assert!(one(&client, 0).await.unwrap().result.is_ok());
    let refusal = one(&client, 1).await.unwrap().result.unwrap_err();
    assert_eq!(refusal.reason, Reason::Auth);
    assert!(refusal.detail.contains("Incorrect API key provided"), "{refusal}");
    assert_eq!(mock.counts().with_key, 2, "the host itself gets the key");
    let target = trial.spec.target(false).unwrap();
    let mut shown = format!("{refusal} {refusal:?} {target:?} {:?}", client.record());
    shown.push_str(&serde_json::to_string(&trial.watched.events()).unwrap());
    shown.push_str(&serde_json::to_string(&trial.spec).unwrap());
    drop(client);
    let mut places = vec![("events and errors".to_string(), shown.into_bytes())];
    for path in forwhy_store::list(trial.ledger_folder()).unwrap() {
        if !path.ends_with("key") {
            places.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    for (place, bytes) in places {
        for form in forms() {
            let found = bytes.windows(form.len()).any(|w| w.eq_ignore_ascii_case(&form));
            assert!(!found, "{place} holds the key as {}", String::from_utf8_lossy(&form));
        }
    }
}

#[tokio::test]
async fn fault_34_a_redirect_is_not_followed_and_the_key_stays() {
    let other = playing(Script::default());
    let to = format!("{}/chat/completions", other.base());
    let mock = playing(Script::failing([FaultRule::always(Fault::Redirect { to })]));
    let trial = keyed(Trial::new(&[&mock]));
    let client = trial.client().await;
    let refusal = one(&client, 0).await.unwrap().result.unwrap_err();
    assert_eq!(refusal.reason, Reason::Redirect, "{refusal}");
    let counts = other.counts();
    assert_eq!((counts.connections, counts.requests, counts.with_key), (0, 0, 0));
}
