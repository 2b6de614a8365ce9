//! How often the proof of a join is sent, against a testcluster that fails at each point.

use std::time::{Duration, SystemTime};

use teleport_api::teleport::join::v1::{ClientParams, join_request::Payload};
use testcluster::{Exchange, FaultInjection, JoinService, LoadBalancer, NetworkFault, Point, Route, Testcluster};
use tokio::sync::watch;

use super::method::{Hints, Method, Rest};
use super::*;
use crate::environment::Environment;
use crate::net::connection::Connection;

/// The ID token of a platform, as if it were a secret that can be used once.
struct OneTime(oidc::Oidc<'static>);

impl Method for OneTime {
    fn join_method(&self) -> &'static str {
        self.0.join_method()
    }

    fn init(&self, params: ClientParams) -> Payload {
        self.0.init(params)
    }

    fn rest(&self) -> Option<Rest<'_>> {
        self.0.rest()
    }

    fn may_repeat(&self) -> bool {
        false
    }

    fn hints(&self) -> Hints {
        self.0.hints()
    }
}

/// Joins. Returns whether that succeeded, and how many calls of the two services the cluster saw.
fn join(cluster: &Testcluster, may_repeat: bool) -> (bool, usize) {
    let clone_dir = tempfile::tempdir().unwrap();
    let env: Environment = cluster.step_env(clone_dir.path()).into_iter().collect();
    let found = crate::platform::find(None, None, &env).unwrap();
    let (addr, ca) = (cluster.proxy_addr().parse().unwrap(), cluster.web_ca_file().to_str().unwrap());
    let connection = Connection::new(addr, Some(ca), &Environment::default()).unwrap();
    let network = connection.network(&connection.authorities(clone_dir.path()).unwrap());
    let (_clock, known) = watch::channel(Some(Offset::default()));
    let repeatable = oidc::Oidc::new(found, |_| ());
    let one_time;
    let method: &dyn Method = if may_repeat {
        &repeatable
    } else {
        one_time = OneTime(repeatable);
        &one_time
    };
    let request = Request {
        proxy: &connection.addr,
        network: &network,
        token: &Secret::new(cluster.token_name()),
        method,
        ttl: "1h".parse().unwrap(),
        now: SystemTime::now(),
        clock: known,
        is_prepared: watch::channel(true).1,
        deadline: Deadline::after(Duration::from_secs(60)),
        privacy: Privacy::Private,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let joined = runtime.block_on(async {
        match by_service(&request).await {
            Ok(Outcome::Joined(_)) => true,
            Ok(Outcome::NotThere(first)) => {
                let http = network.web(&connection.addr, request.deadline).await.unwrap();
                by_rest(&request, &ClusterInfo::sample("18.3.0"), http, first).await.is_ok()
            }
            Err(_) => false,
        }
    });
    let is_join = |name: &str| name.ends_with("/Join") || name.ends_with("/webapi/host/credentials");
    (joined, cluster.calls().iter().filter(|call| is_join(&call.name)).count())
}

fn cluster_with(point: Point, fault: NetworkFault) -> Testcluster {
    Testcluster::builder().inject(FaultInjection { point, fault, once: true }).start()
}

#[test]
fn a_proof_that_may_not_repeat_is_sent_once_whatever_fails_after_it() {
    use Exchange::{ClientInit, OidcInit};
    for point in [Point::Before(ClientInit), Point::After(ClientInit), Point::Before(OidcInit), Point::After(OidcInit)]
    {
        for fault in [NetworkFault::Close, NetworkFault::Reset, NetworkFault::Garbage] {
            assert_eq!(join(&cluster_with(point, fault), false), (false, 1), "{point:?} {fault:?}");
            // The fault is one that a second attempt survives.
            let (joined, calls) = join(&cluster_with(point, fault), true);
            assert!(joined && calls > 1, "{point:?} {fault:?}: {calls} calls");
        }
    }
}

#[test]
fn a_proof_that_may_not_repeat_goes_to_one_service_only() {
    let cluster = |service| Testcluster::builder().join_service(service).start();
    // That the service is not there is found out before.
    assert_eq!(join(&cluster(JoinService::Absent), false), (true, 1));
    assert_eq!(join(&cluster(JoinService::WithoutMethod), false), (false, 1));
    assert_eq!(join(&cluster(JoinService::Absent), true), (true, 2));
    assert_eq!(join(&cluster(JoinService::WithoutMethod), true), (true, 2));
}

#[test]
fn a_proof_that_may_not_repeat_is_sent_once_by_rest_too() {
    let cluster = || {
        let always = FaultInjection { point: Point::Handshake(Route::Join), fault: NetworkFault::Reset, once: false };
        let lost = FaultInjection { point: Point::After(Exchange::RestJoin), fault: NetworkFault::Reset, once: true };
        Testcluster::builder().inject(always).inject(lost).start()
    };
    assert_eq!(join(&cluster(), false), (false, 1));
    assert_eq!(join(&cluster(), true), (true, 2));
}

#[test]
fn a_connection_that_fails_before_the_proof_is_sent_is_tried_again() {
    let cluster = cluster_with(Point::Handshake(Route::Join), NetworkFault::Reset);
    assert_eq!(join(&cluster, false), (true, 1));
}

#[test]
fn behind_a_load_balancer_the_proof_is_sent_once() {
    let cluster = Testcluster::builder().load_balancer(LoadBalancer::default()).start();
    assert_eq!(join(&cluster, false), (true, 1));
}
