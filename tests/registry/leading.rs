//! Registries that lead elsewhere: redirects, challenges and token services.

use super::fake::{Fake, reply};
use super::hostile::{is_layer, name, said, with};
use super::kit::*;
use crate::images::kit::module;
use wasmpod::image::{Auth, Imported, Pull};

/// A pull by a caller who has a password.
fn with_password(fake: &Fake) -> Pull {
    let auth = Auth { username: "u".to_owned(), password: "p".to_owned(), ..Default::default() };
    Pull { name: name(fake), auth: Some(auth), imported: Imported::Keep }
}

#[tokio::test]
async fn redirects_are_followed_without_credentials_and_not_for_ever() {
    let kit = quick();
    let store = kit.store().await;
    let made = artifact(module(1));
    let elsewhere = Fake::start();
    elsewhere.put("/data", "x", made.layer().bytes.clone());
    let (there, layer) = (elsewhere.url(), made.layer().digest.clone());
    let fake = with(&made, move |seen, _| {
        if seen.header("authorization").is_empty() {
            return Some(reply(401, &[("www-authenticate", "Basic realm=\"x\"")], ""));
        }
        let to = format!("{there}/data");
        seen.path.contains(&layer).then(|| reply(307, &[("location", &to)], ""))
    });
    store.pull(with_password(&fake)).unwrap().done().await.unwrap();
    let seen = elsewhere.seen();
    assert_eq!((seen.len(), seen[0].header("authorization")), (1, ""));
    assert_eq!(fake.seen().last().unwrap().header("authorization"), "Basic dTpw");

    let text =
        said(|seen, _| is_layer(seen).then(|| reply(302, &[("location", &seen.path)], ""))).await;
    assert!(text.contains("on and on: more than 5 redirects"), "{text}");
    for (to, part) in [
        ("http://169.254.169.254/latest/meta-data", "an address of this machine itself"),
        ("file:///etc/passwd", "is not http"),
        ("gopher://x/", "is not http"),
    ] {
        let text =
            said(move |seen, _| is_layer(seen).then(|| reply(302, &[("location", to)], ""))).await;
        assert!(text.contains("which is refused") && text.contains(part), "{to}: {text}");
    }
    let text = said(|seen, _| is_layer(seen).then(|| reply(302, &[], ""))).await;
    assert!(text.contains("it does not say where"), "{text}");
}

#[tokio::test]
async fn who_we_are_sent_to_is_told_no_credentials_whatever_it_asks_for() {
    let kit = quick();
    let store = kit.store().await;
    let stranger = Fake::start();
    let realm = format!("Bearer realm=\"{}/token\",service=\"s\"", stranger.url());
    stranger.rule(move |seen, _| {
        Some(if seen.path.starts_with("/token") {
            reply(200, &[], r#"{"token": "t"}"#)
        } else {
            reply(401, &[("www-authenticate", &realm)], "")
        })
    });
    let (there, place) = (format!("{}/data", stranger.url()), stranger.host());
    let made = artifact(large(1, 100_000));
    let fake =
        with(&made, move |seen, _| is_layer(seen).then(|| reply(307, &[("location", &there)], "")));
    let error = store.pull(with_password(&fake)).unwrap().done().await.unwrap_err().to_string();
    assert!(error.contains(&format!("sends us to {place}")), "{error}");
    let seen = stranger.seen();
    assert!(seen.iter().all(|seen| seen.path == "/data"), "{seen:?}");
    assert!(seen.iter().all(|seen| seen.header("authorization").is_empty()), "{seen:?}");
}

#[tokio::test]
async fn a_challenge_without_end_is_a_denial() {
    for challenge in ["Basic realm=\"x\"", "Bearer", "Negotiate", ""] {
        let text = said(move |_, _| Some(reply(401, &[("www-authenticate", challenge)], ""))).await;
        assert!(text.contains("denies access to"), "{challenge}: {text}");
    }
    // A token service that always grants, and a registry that never accepts.
    let kit = quick();
    let store = kit.store().await;
    let fake = Fake::start();
    let realm = format!("Bearer realm=\"{}/token\",service=\"s\"", fake.url());
    fake.rule(move |seen, _| {
        Some(if seen.path.starts_with("/token") {
            reply(200, &[], r#"{"token": "t"}"#)
        } else {
            reply(401, &[("www-authenticate", &realm)], "")
        })
    });
    let text = refusal(&kit, &store, &name(&fake)).await;
    assert!(text.contains("denies access to") && text.contains("no credentials"), "{text}");
    assert!(fake.seen().len() <= 4, "{}", fake.seen().len());
}

#[tokio::test]
async fn a_token_service_may_not_be_just_anywhere() {
    for (realm, part) in [
        ("http://169.254.169.254/token", "an address of this machine itself"),
        ("file:///etc/passwd", "is not http"),
        ("nonsense", "wants a token from nonsense"),
    ] {
        let text = said(move |_, _| {
            let challenge = format!("Bearer realm=\"{realm}\"");
            Some(reply(401, &[("www-authenticate", &challenge)], ""))
        })
        .await;
        assert!(text.contains(part), "{realm}: {text}");
    }
}
