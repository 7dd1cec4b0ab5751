//! Who may do what: tokens, scopes, tenants, filters.

use super::rig::{Rig, THREE, answer};
use crate::access::Need;
use crate::serve::{door_routes, routes};
use lodge_server::tokens::{Kind, Wanted, make};
use lodge_store::token::{Scope, Scopes, Token};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

fn wanted(scopes: &str) -> Wanted {
    Wanted {
        name: format!("for {scopes}"),
        tenant: "default".parse().unwrap(),
        scopes: scopes.parse().unwrap(),
        only: None,
        expires_ms: None,
        kind: Kind::Secret,
    }
}

/// Makes a token as an administrator of the data folder does, and waits until it counts.
async fn token(rig: &Rig, wanted: Wanted) -> (Token, String) {
    let (token, secret) = make(wanted).unwrap();
    assert!(rig.server.store().add_token(token.clone()).await.unwrap());
    rig.server.tokens_read().await;
    (token, secret.unwrap_or_default())
}

async fn count(rig: &Rig, secret: &str) -> (StatusCode, Value) {
    let query = rig.get("/select/logsql/stats_query?query=*|stats count() n");
    answer(query.bearer_auth(secret)).await
}

fn found(body: &Value) -> &str {
    body["data"]["result"][0]["value"][1].as_str().unwrap_or("0")
}

/// Every route of every listener, asked with every method by everybody.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_for_its_scope_alone() {
    let rig = Rig::with(|config| {
        for door in [&mut config.elasticsearch, &mut config.loki, &mut config.otlp] {
            *door = Some("127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into());
        }
    })
    .await;
    rig.inserted(THREE).await;
    let mut holders = vec![(None, Scopes::default())];
    for scope in Scope::ALL {
        let (_, secret) = token(&rig, wanted(scope.name())).await;
        holders.push((Some(secret), Scopes::default().with(scope)));
    }
    holders.push((Some("lodge_00000000000000000000000000000000".to_owned()), Scopes::default()));
    let mut tables = vec![("listen", routes())];
    tables.extend(["elasticsearch", "loki", "otlp"].map(|name| (name, door_routes(name))));
    let mut asked = 0;
    for (listener, routes) in tables {
        let at = rig.server.bound(listener).unwrap();
        for (path, need) in routes.table() {
            let path =
                path.replace("{id}", "0123").replace("{key}", "unknown").replace("{index}", "logs");
            let path = path.replace("{*path}", "_search");
            for (secret, scopes) in &holders {
                let mut methods_refused = 0;
                for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
                    let request = rig.http.request(method.clone(), format!("http://{at}{path}"));
                    let request = match secret {
                        Some(secret) => request.bearer_auth(secret),
                        None => request,
                    };
                    let response = request.send().await.unwrap();
                    let headers = format!("{:?}", response.headers());
                    // What gRPC refuses it refuses in headers of its own.
                    let status = match response.headers().get("grpc-status").map(|v| v.as_bytes()) {
                        Some(b"16") => StatusCode::UNAUTHORIZED,
                        Some(b"7") => StatusCode::FORBIDDEN,
                        _ => response.status(),
                    };
                    let body = response.text().await.unwrap();
                    let place = format!("{method} {listener}{path} by {scopes:?}: {status} {body}");
                    let is_refused =
                        matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
                    // Which methods there are is no secret.
                    let is_possible = status != StatusCode::METHOD_NOT_ALLOWED;
                    methods_refused += usize::from(is_refused);
                    match need {
                        _ if !is_possible => {}
                        Need::Nothing => assert!(!is_refused, "{place}"),
                        // No token is the key of another server.
                        Need::Peer => assert_eq!(status, StatusCode::UNAUTHORIZED, "{place}"),
                        Need::Scope(scope) if scopes.has(*scope) => assert!(!is_refused, "{place}"),
                        Need::Scope(_) if scopes.is_empty() => {
                            assert_eq!(status, StatusCode::UNAUTHORIZED, "{place}");
                            let asks = headers.contains("www-authenticate");
                            assert!(asks || headers.contains("grpc-status"), "{place}");
                        }
                        Need::Scope(_) => assert_eq!(status, StatusCode::FORBIDDEN, "{place}"),
                    }
                    if !scopes.has(Scope::Read) {
                        for stored in ["it broke", "checkpoint done", "api"] {
                            let is_told = body.contains(&format!("\"{stored}\""));
                            assert!(!is_told, "{place}");
                        }
                    }
                    asked += 1;
                }
                let is_let_in = match need {
                    Need::Nothing => true,
                    Need::Peer => false,
                    Need::Scope(scope) => scopes.has(*scope),
                };
                assert_eq!(methods_refused > 0, !is_let_in, "{listener}{path} by {scopes:?}");
            }
        }
    }
    assert!(asked > 1_000, "{asked}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_may_show_its_token_in_its_own_way() {
    let rig = Rig::start().await;
    let (_, secret) = token(&rig, wanted("ingest,read")).await;
    let event = || rig.post("/services/collector").body("{\"event\":\"from splunk\"}");
    let (status, body) = answer(event()).await;
    assert_eq!((status, &body["code"]), (StatusCode::UNAUTHORIZED, &json!(2)), "{body}");
    let (status, body) = answer(event().header("Authorization", "Splunk wrong")).await;
    assert_eq!((status, &body["code"]), (StatusCode::UNAUTHORIZED, &json!(4)), "{body}");
    let shown: [(&str, RequestBuilder); 6] = [
        ("splunk", event().header("Authorization", format!("Splunk {secret}"))),
        (
            "datadog",
            rig.post("/api/v2/logs").header("DD-API-KEY", &secret).json(&json!([{"message": "x"}])),
        ),
        ("old datadog", rig.post(&format!("/v1/input/{secret}")).json(&json!([{"message": "x"}]))),
        (
            "loki",
            rig.post("/loki/api/v1/push").basic_auth("tenant", Some(&secret)).json(
                &json!({"streams": [{"stream": {"a": "b"}, "values": [["1772366400000000000", "x"]]}]}),
            ),
        ),
        (
            "elasticsearch",
            rig.post("/elasticsearch/logs/_bulk")
                .header("Authorization", format!("ApiKey {secret}"))
                .body("{\"create\":{}}\n{\"message\":\"x\"}\n"),
        ),
        ("otlp", rig.post("/v1/logs").bearer_auth(&secret).json(&json!({"resourceLogs": []}))),
    ];
    for (name, request) in shown {
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{name}: {}", response.text().await.unwrap());
    }
    let (_, body) = count(&rig, &secret).await;
    assert_eq!(found(&body), "5", "{body}");
    let elastic = rig.get("/elasticsearch/").send().await.unwrap();
    assert_eq!(elastic.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(elastic.headers()["x-elastic-product"], "Elasticsearch");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own_records_alone() {
    let rig = Rig::start().await;
    let tenant =
        |name: &str, scopes: &str| Wanted { tenant: name.parse().unwrap(), ..wanted(scopes) };
    let (_, shop) = token(&rig, tenant("shop", "ingest,read,admin")).await;
    let (_, bank) = token(&rig, tenant("bank", "ingest,read,admin")).await;
    for (secret, lines) in [(&shop, 2), (&bank, 3)] {
        let body = "{\"_msg\":\"m\"}\n".repeat(lines);
        let insert = rig.post("/insert/jsonline").bearer_auth(secret).body(body);
        assert_eq!(answer(insert.header("X-Scope-OrgID", "bank")).await.0, StatusCode::OK);
    }
    assert_eq!(found(&count(&rig, &shop).await.1), "2");
    assert_eq!(found(&count(&rig, &bank).await.1), "3");
    let sql = rig.get("/api/v1/sql?query=SELECT count(*) AS n FROM logs").bearer_auth(&shop);
    let (_, body) = answer(sql).await;
    assert_eq!(body["rows"], json!([[2]]), "{body}");
    let list = |secret: &str| answer(rig.get("/api/v1/tokens").bearer_auth(secret));
    let (_, own) = list(&shop).await;
    assert_eq!(own["tokens"].as_array().unwrap().len(), 1, "{own}");
    let (_, other) = list(&bank).await;
    let id = other["tokens"][0]["id"].as_str().unwrap();
    let revoke = rig.http.delete(rig.url(&format!("/api/v1/tokens/{id}"))).bearer_auth(&shop);
    assert_eq!(answer(revoke).await.0, StatusCode::NOT_FOUND);
    rig.server.stop().await;
}

/// One tenant asks for as much as it can and reads none of it; another asks all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_leaves_places_for_queries_to_others() {
    let rig = Rig::with(|c| c.queries_max = 4).await;
    let tenant = |name: &str| Wanted { tenant: name.parse().unwrap(), ..wanted("ingest,read") };
    let (_, noisy) = token(&rig, tenant("noisy")).await;
    let (_, quiet) = token(&rig, tenant("quiet")).await;
    let filler = "z".repeat(2_000);
    let lines: String =
        (0..12_000).map(|i| format!("{{\"_msg\":\"line {i}\",\"f\":\"{filler}\"}}\n")).collect();
    for (secret, body) in [(&noisy, lines), (&quiet, "{\"_msg\":\"m\"}\n".to_owned())] {
        let insert = rig.post("/insert/jsonline").bearer_auth(secret).body(body);
        assert_eq!(answer(insert).await.0, StatusCode::OK);
    }
    assert_eq!(found(&count(&rig, &quiet).await.1), "1");
    let all = || rig.get("/select/logsql/query?query=*").bearer_auth(&noisy);
    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(all().send().await.unwrap());
    }
    let waits = tokio::spawn(all().send());
    for _ in 0..5 {
        let (status, body) = count(&rig, &quiet).await;
        assert_eq!((status, found(&body)), (StatusCode::OK, "1"));
    }
    assert!(!waits.is_finished(), "the noisy one has more places than are its");
    drop(unread);
    assert_eq!(waits.await.unwrap().unwrap().status(), StatusCode::OK);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_bounds_every_answer_of_its_token() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    let only = Wanted { only: Some("{service=\"db\"}".into()), ..wanted("read") };
    let (_, secret) = token(&rig, only).await;
    assert_eq!(found(&count(&rig, &secret).await.1), "1");
    for path in [
        "/select/logsql/query?query=*",
        "/select/logsql/query?query=started or *",
        "/select/logsql/field_values?query=*&field=_msg",
        "/select/logsql/streams?query=*",
        "/select/logsql/hits?query=*&field=service&start=2026-03-01T00:00:00Z",
        "/select/logsql/patterns?query=*",
        "/api/v1/sql?query=SELECT * FROM logs",
        "/api/v1/export?query=*&format=jsonl",
        "/select/logsql/query?query=*&extra_filters={service=\"api\"} or *",
    ] {
        let response = rig.get(path).bearer_auth(&secret).send().await.unwrap();
        let status = response.status();
        let body = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        assert!(!body.contains("started") && !body.contains("broke"), "{path}: {body}");
        assert!(body.contains("db") || body.contains("checkpoint"), "{path}: {body}");
    }
    let ledger = rig.get("/api/v1/ledger").bearer_auth(&secret);
    assert_eq!(answer(ledger).await.0, StatusCode::FORBIDDEN);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_listed_and_revoked_over_http() {
    let rig = Rig::start().await;
    let ask = |body: Value| rig.post("/api/v1/tokens").json(&body);
    for (body, part) in [
        (json!({"name": "", "scopes": "read"}), "1 to 128 bytes"),
        (json!({"name": "x", "scopes": "write"}), "not a list of scopes"),
        (json!({"name": "x", "scopes": "ingest", "only": "*"}), "`read` alone"),
        (json!({"name": "x", "scopes": "read", "only": "{"}), "the filter"),
        (json!({"name": "x", "scopes": "read", "expires_s": 0}), "ended already"),
        (json!({"name": "x", "scopes": "read", "colour": 1}), "unknown field"),
        (json!({"name": "x", "scopes": "read", "forward_key": true}), "only sends"),
    ] {
        let (status, answered) = answer(ask(body.clone())).await;
        assert!(status.is_client_error(), "{body}: {answered}");
        assert!(answered["error"].as_str().unwrap().contains(part), "{body}: {answered}");
    }
    let (status, admin) = answer(ask(json!({"name": "me", "scopes": "admin"}))).await;
    assert_eq!(status, StatusCode::CREATED, "{admin}");
    let admin = admin["secret"].as_str().unwrap().to_owned();
    // From now on everybody needs one, this machine too.
    assert_eq!(answer(rig.get("/api/v1/status")).await.0, StatusCode::UNAUTHORIZED);
    let body = json!({"name": "app", "scopes": "ingest,read", "expires_s": 3600});
    let (_, app) = answer(ask(body).bearer_auth(&admin)).await;
    let secret = app["secret"].as_str().unwrap().to_owned();
    assert_eq!(count(&rig, &secret).await.0, StatusCode::OK);
    let (_, list) = answer(rig.get("/api/v1/tokens").bearer_auth(&admin)).await;
    assert_eq!(list["tokens"].as_array().unwrap().len(), 2);
    assert!(!list.to_string().contains(&secret), "{list}");
    assert!(list["tokens"][1]["expires"].is_string(), "{list}");
    let id = app["id"].as_str().unwrap();
    let revoke = rig.http.delete(rig.url(&format!("/api/v1/tokens/{id}"))).bearer_auth(&admin);
    assert_eq!(answer(revoke).await.0, StatusCode::OK);
    let (status, body) = count(&rig, &secret).await;
    assert_eq!((status, &body["code"]), (StatusCode::UNAUTHORIZED, &json!("unknown_token")));
    let metrics = rig.get("/metrics").bearer_auth(&secret).send().await.unwrap();
    assert_eq!(metrics.status(), StatusCode::UNAUTHORIZED);
    // Secrets are in the catalog as hashes only.
    let catalog = std::fs::read(rig.dir.path().join("catalog.db-wal")).unwrap();
    let is_there = memchr::memmem::find(&catalog, secret.as_bytes()).is_some();
    assert!(!is_there && memchr::memmem::find(&catalog, b"tokens_version").is_some());
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_any_name_of_the_server_will_do_but_no_foreign_page() {
    let rig = Rig::start().await;
    let (_, secret) = token(&rig, wanted("read")).await;
    let ask = || rig.get("/select/logsql/query?query=*").bearer_auth(&secret);
    let named = ask().header("Host", "logs.example").send().await.unwrap();
    assert_eq!(named.status(), StatusCode::OK);
    let page = ask().header("Host", "logs.example").header("Origin", "http://evil.example");
    assert_eq!(answer(page).await.0, StatusCode::FORBIDDEN);
    let own = ask().header("Host", "logs.example").header("Origin", "http://logs.example");
    assert_eq!(own.send().await.unwrap().status(), StatusCode::OK);
    rig.server.stop().await;
}
