//! gRPC requests while they are held, and how they are refused.

use super::{POSITIONS, Position, at, grpc, grpc_status, held, message, without_keys, without_token};
use crate::envoy::scene::{Scene, inbound, outbound, send, wasm};
use m2m_auth_kit::idp::{Endpoint, Fault, Idp};
use m2m_auth_kit::token::Mint;
use m2m_auth_kit::upstream::Upstream;
use serde_json::json;

#[tokio::test]
async fn a_grpc_call_that_is_held_arrives_as_it_was_sent_and_its_trailers_come_back() {
    for position in POSITIONS {
        let (scene, gate) = without_token(position, |_| ()).await;
        let call = send(grpc(&scene, "Get").body(message("one")));
        held(&scene, 1).await;
        gate.open();
        let answer = call.await.unwrap();
        assert_eq!(grpc_status(&answer), (200, Some("0".to_owned())), "{position:?}: {answer:?}");
        assert_eq!(answer.body, message(""), "{position:?}");
        let [request] = &scene.upstream.requests()[..] else { panic!("{:?}", scene.upstream.requests()) };
        assert_eq!((request.version.as_str(), &request.body[..]), ("HTTP/2.0", &message("one")[..]));
        assert_eq!(request.header("te").as_deref(), Some("trailers"), "{position:?}");
        assert!(request.header("authorization").is_some_and(|value| value.starts_with("Bearer ey")));
    }
}

#[tokio::test]
async fn the_messages_of_a_grpc_stream_and_its_trailers_wait_with_it_in_their_order() {
    for position in POSITIONS {
        let (scene, gate) = without_token(position, |_| ()).await;
        let (open, ended) = (grpc(&scene, "Open").open(), grpc(&scene, "Ended").open());
        for stream in [&open, &ended] {
            stream.send(message("one")).await;
            stream.send(message("two")).await;
        }
        // One stream has ended while it is held, the other continues.
        ended.trailers(&[("x-checksum", "77")]).await;
        held(&scene, 2).await;
        assert!(!open.is_answered() && scene.upstream.count() == 0, "{position:?}");
        gate.open();
        open.send(message("three")).await;
        open.trailers(&[("x-checksum", "77")]).await;
        for (stream, method, messages) in
            [(ended, "Ended", ["one", "two"].as_slice()), (open, "Open", &["one", "two", "three"])]
        {
            let answer = stream.finish().await;
            assert_eq!(
                grpc_status(&answer),
                (200, Some("0".to_owned())),
                "{position:?} {method}: {answer:?}"
            );
            let seen = scene.seen(&format!("/inventory/{method}"));
            let expected: Vec<_> = messages.iter().flat_map(|text| message(text)).collect();
            assert_eq!(seen.len(), 1, "{position:?} {method}");
            assert_eq!(&seen[0].body[..], &expected[..], "{position:?} {method}");
            assert_eq!(
                seen[0].trailers,
                [("x-checksum".to_owned(), b"77".to_vec())],
                "{position:?} {method}"
            );
        }
    }
}

#[tokio::test]
async fn a_grpc_caller_that_was_held_for_keys_is_answered_16_for_its_token_and_7_for_its_roles() {
    let (scene, gate) = without_keys().await;
    let mut claims = scene.idp.claims();
    claims["resource_access"] = json!({});
    let stranger = Idp::foreign_key().with_kid(scene.idp.signing_key().kid());
    let forged = Mint::of(scene.idp.claims()).sign(&stranger);
    let powerless = scene.idp.mint(claims);
    let call = |token: &str| send(grpc(&scene, "Get").bearer(token).body(message("one")));
    let running = [forged, powerless, scene.idp.token()].map(|token| call(&token));
    let stream = grpc(&scene, "Stream").bearer(scene.idp.token()).open();
    stream.send(message("one")).await;
    held(&scene, 4).await;
    gate.open();
    let mut statuses = Vec::new();
    for answer in running {
        let answer = answer.await.unwrap();
        assert_eq!(answer.header("content-type").as_deref(), Some("application/grpc"), "{answer:?}");
        statuses.push(grpc_status(&answer).1.unwrap());
    }
    assert_eq!(statuses, ["16", "7", "0"]);
    assert_eq!(stream.finish().await.header("grpc-status").as_deref(), Some("0"));
    let nobody = grpc(&scene, "Get").body(message("one")).send().await;
    assert_eq!(grpc_status(&nobody), (200, Some("16".to_owned())), "{nobody:?}");
}

/// No fetch is ever answered, and no request waits for longer than a second.
async fn silent(position: Position, configuration: fn(&Idp) -> serde_json::Value) -> Scene {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.fault(Endpoint::Token, Fault::Hang);
    idp.fault(Endpoint::Keys, Fault::Hang);
    let mut configuration = configuration(&idp);
    configuration["pending_requests"]["timeout"] = json!("1s");
    at(position, idp, upstream, &wasm(&configuration), |_| ()).await
}

#[tokio::test]
async fn a_grpc_client_that_times_out_is_answered_14() {
    let scenes = [
        silent(Position::Listener, inbound).await,
        silent(Position::Listener, outbound).await,
        silent(Position::Cluster, outbound).await,
    ];
    for scene in scenes {
        let call = grpc(&scene, "Get").bearer(scene.idp.token());
        let stream = call.open();
        stream.send(message("one")).await;
        let call = send(call.body(message("one")));
        held(&scene, 2).await;
        for answer in [call.await.unwrap(), stream.finish().await] {
            assert_eq!(grpc_status(&answer), (200, Some("14".to_owned())), "{answer:?}");
            assert_eq!(answer.header("retry-after").as_deref(), Some("1"), "{answer:?}");
        }
        assert_eq!(scene.upstream.count(), 0);
    }
}
