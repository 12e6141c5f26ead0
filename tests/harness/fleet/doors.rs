use std::net::SocketAddr;

use region_router::front_door;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::start::front_door_config;
use super::{Addresses, Fleet, any_port};
use crate::{Caller, eventually};

/// A front door of its own, at addresses that stay when it is started again.
#[derive(Debug)]
pub struct Door {
    public: SocketAddr,
    internal: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Door {
    /// Where callers are taken in.
    pub fn url(&self) -> String {
        format!("http://{}", self.public)
    }

    /// Where its readiness is asked.
    pub fn internal_url(&self) -> String {
        format!("http://{}", self.internal)
    }
}

/// Starting and stopping the second ones of everything.
impl Fleet {
    /// Starts a front door that is not started yet, and waits until it is ready.
    pub async fn start_door(&self, door: Option<Door>) -> Door {
        let (public, internal) =
            door.map_or_else(|| (any_port(), any_port()), |door| (door.public, door.internal));
        let config = front_door_config(&self.topology, "");
        let (stop, stopped) = oneshot::channel();
        let started = self.runtime().spawn(async move {
            let public = TcpListener::bind(public).await.expect("the address is free");
            let internal = TcpListener::bind(internal).await.expect("the address is free");
            let at = |listener: &TcpListener| listener.local_addr().expect("a listener has an address");
            let (at_public, at_internal) = (at(&public), at(&internal));
            let ended = async {
                let _ = stopped.await;
            };
            let running = tokio::spawn(front_door::run_with(public, Some(internal), config, ended));
            (at_public, at_internal, running)
        });
        let (public, internal, running) = started.await.expect("starting does not panic");
        let door = Door { public, internal, running: Some((stop, running)) };
        let probe = Caller::new(door.internal_url());
        eventually("the front door is ready", async || {
            probe.get("/readyz").send().await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        door
    }

    /// Stops a front door as a signal would.
    pub async fn stop_door(&self, mut door: Door) -> Door {
        let (stop, running) = door.running.take().expect("it runs");
        stop.send(()).expect("it runs");
        running.await.expect("stopping does not panic");
        door
    }

    /// Starts the second edge of a region, and waits until it is ready.
    pub async fn start_twin(&self, id: &str) {
        let (addresses, app) = self.region(id).twin.as_ref().expect("this region has two edges");
        let Addresses { public, internal, peers } = *addresses;
        let changed = [
            ("TROLI_LISTEN", public.to_string()),
            ("TROLI_INTERNAL_LISTEN", internal.to_string()),
            ("TROLI_PEER_LISTEN", peers.to_string()),
            // One edge that follows the file is enough.
            ("TROLI_RULES_FILE", String::new()),
        ];
        *app.lock().await = Some(self.start_app(id, &changed).await);
        let probe = Caller::new(format!("http://{internal}"));
        eventually(&format!("the second edge of {id} is ready"), async || {
            probe.get("/readyz").send().await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Stops the second edge of a region as a signal would.
    pub async fn stop_twin(&self, id: &str) {
        let (_, app) = self.region(id).twin.as_ref().expect("this region has two edges");
        let app = app.lock().await.take().expect("it runs");
        self.stop_edge(app).await;
    }

    /// The internal listeners of all edges of a region.
    pub fn internal_urls(&self, id: &str) -> Vec<String> {
        let region = self.region(id);
        let twin = region.twin.as_ref().map(|(addresses, _)| *addresses);
        let all = [Some(region.addresses), twin].into_iter().flatten();
        all.map(|edge| format!("http://{}", edge.internal)).collect()
    }
}
