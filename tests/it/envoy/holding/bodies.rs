//! Bodies that are under way while their request is held.

use super::{POSITIONS, both_versions, held, without_token};
use crate::envoy::scene::arrived;
use m2m_auth_kit::client::Upload;
use m2m_auth_kit::idp::Endpoint;

/// Every 4 bytes differ from all others.
fn body(bytes: u32) -> Vec<u8> {
    (0..bytes / 4).flat_map(u32::to_be_bytes).collect()
}

#[tokio::test]
async fn a_body_that_is_sent_in_pieces_while_its_request_is_held_arrives_whole_and_once() {
    for position in POSITIONS {
        let (scene, gate) = without_token(position, |_| ()).await;
        let uploads = both_versions(&scene.request("POST", "/upload").bearer("own")).map(|it| it.open());
        let body = body(100_000);
        let mut pieces = body.chunks(10_000);
        for piece in pieces.by_ref().take(5) {
            for upload in &uploads {
                upload.send(piece.to_vec()).await;
            }
        }
        held(&scene, 2).await;
        assert_eq!(scene.upstream.count(), 0, "{position:?}");
        gate.open();
        for piece in pieces {
            for upload in &uploads {
                upload.send(piece.to_vec()).await;
            }
        }
        for upload in uploads {
            let values = arrived(&upload.finish().await, "authorization");
            assert!(values.len() == 1 && values[0].starts_with("Bearer ey"), "{position:?}: {values:?}");
        }
        let seen = scene.seen("/upload");
        assert_eq!(seen.len(), 2, "{position:?}");
        assert!(seen.iter().all(|request| request.body == body), "{position:?}: {}", seen[0].body.len());
    }
}

#[tokio::test]
async fn three_megabytes_that_come_while_their_request_is_held_arrive_whole_and_once() {
    for position in POSITIONS {
        let (scene, gate) = without_token(position, |_| ()).await;
        let body = body(3 * 1024 * 1024);
        let uploads = both_versions(&scene.request("POST", "/upload")).map(|it| it.open());
        let send = async |upload: &Upload| {
            for piece in body.chunks(16 * 1024) {
                upload.send(piece.to_vec()).await;
            }
        };
        let open = async {
            held(&scene, 2).await;
            assert_eq!(scene.upstream.count(), 0, "{position:?}");
            gate.open();
        };
        tokio::join!(send(&uploads[0]), send(&uploads[1]), open);
        for upload in uploads {
            assert_eq!(arrived(&upload.finish().await, "authorization").len(), 1, "{position:?}");
        }
        let seen = scene.seen("/upload");
        assert_eq!(seen.len(), 2, "{position:?}");
        assert!(seen.iter().all(|request| request.body == body), "{position:?}: {}", seen[0].body.len());
        assert_eq!(scene.idp.count(Endpoint::Token), 1);
    }
}
