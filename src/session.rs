//! A session with a cluster: opened by a join, it issues what outputs request. It prints nothing: what happens on the way
//! is told to the caller as an [`Event`].

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::auth::{self, Auth, AuthRoute};
use crate::bot_identity::BotIdentity;
use crate::clock::{Clock, Offset};
use crate::credentials::{self, Expected};
use crate::error::Failure;
use crate::join::{self, Attempt, Method, Outcome};
use crate::keys::{self, KeyPair, Suite};
use crate::net::authorities::Authorities;
use crate::net::connection::Connection;
use crate::net::discovery::{ClusterInfo, discover};
use crate::net::http::Http;
use crate::net::network::Network;
use crate::net::{self, Stream};
use crate::output::{Issued, Request};
use crate::retry::{Deadline, log_if_slow, retry};
use crate::values::{Privacy, Secret, Ttl};

/// How long the cluster is asked for its clock if the proof has expired by ours.
const ASKING_FOR_THE_TIME: Duration = Duration::from_secs(10);

/// What a session needs from its surroundings.
pub(crate) struct Context<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) network: &'a Network,
    pub(crate) authorities: &'a Authorities,
    pub(crate) clock: &'a Clock,
    pub(crate) deadline: Deadline,
    pub(crate) privacy: Privacy,
    pub(crate) on_event: &'a dyn Fn(Event<'_>),
}

/// What happens while a session is opened.
pub(crate) enum Event<'a> {
    Discovered(&'a ClusterInfo),
    /// The join service is not there, so REST is tried.
    JoinServiceAbsent(&'a Attempt),
    Joined {
        bot_user: &'a str,
        service: &'static str,
    },
}

/// A bot that has joined.
pub(crate) struct Session<'a> {
    context: Context<'a>,
    pub(crate) cluster: ClusterInfo,
    bot: BotIdentity,
    /// The suite of the cluster at the time of the join.
    suite: Suite,
    keys: KeyMaker,
    /// A connection to the proxy that is already open; the first call takes it.
    dialled: Cell<Option<Stream>>,
    /// The connection to the Auth Service, once there is one.
    auth: RefCell<Option<Auth>>,
    /// Whether a load balancer demanded a connection upgrade when the Auth Service was connected to.
    upgrade: Cell<bool>,
    /// The time by our clock when the session was opened.
    opened: SystemTime,
}

impl<'a> Session<'a> {
    /// Joins. `outputs` is the number of keys that will be needed: they are made while the network is busy. The join and
    /// discovery run at the same time, and the connection to the Auth Service is opened meanwhile.
    pub(crate) async fn open(
        context: Context<'a>,
        method: &dyn Method,
        token: &Secret,
        ttl: Ttl,
        outputs: usize,
    ) -> Result<Self, Failure> {
        let opened = context.clock.now();
        expect_not_expired(&context, method, opened).await?;
        let dialling = DialAhead::start(&context);
        let (clock, known_clock) = watch::channel(None);
        let (prepared, is_prepared) = watch::channel(false);
        let request = join::Request {
            proxy: &context.connection.addr,
            network: context.network,
            token,
            method,
            ttl,
            now: opened,
            clock: known_clock,
            is_prepared,
            deadline: context.deadline,
            privacy: context.privacy,
        };
        let preparing = async {
            method.prepare(context.network, context.deadline).await?;
            prepared.send_replace(true);
            Ok(())
        };
        let joining = async { join::by_service(&request).await.map_err(Failure::from) };
        let ((), (cluster, http, keys), outcome) =
            tokio::try_join!(preparing, discover_cluster(&context, clock, outputs), joining)?;
        let joined = match outcome {
            Outcome::Joined(joined) => joined,
            Outcome::NotThere(first) => {
                (context.on_event)(Event::JoinServiceAbsent(&first));
                join::by_rest(&request, &cluster, http, first).await?
            }
        };
        let (suite, service) = (joined.suite, joined.service);
        let bot = BotIdentity::new(joined)?;
        (context.on_event)(Event::Joined { bot_user: &bot.user, service });
        let (dialled, auth, upgrade) = (Cell::new(dialling.take()), RefCell::default(), Cell::default());
        Ok(Self { context, cluster, bot, suite, keys, dialled, auth, upgrade, opened })
    }

    /// The time by the cluster's clock when the session was opened.
    pub(crate) fn opened_by_cluster_clock(&self) -> SystemTime {
        self.cluster.clock.cluster_time(self.opened)
    }

    /// Requests what an output wants, and checks what comes back.
    pub(crate) async fn issue(&self, request: &Request, ttl: Ttl, deadline: Deadline) -> Result<Issued, Failure> {
        let key = log_if_slow("certificates", "making the key pair", self.keys.take(self.suite)).await?;
        let expires = self.cluster.clock.cluster_time(self.context.clock.now()) + ttl.0;
        let response = retry("certificates", deadline, |deadline| {
            let key = &key;
            async move {
                let requesting = async {
                    let auth = self.auth(deadline).await?;
                    self.bot.request_certificates(&auth, key, request, expires).await
                };
                requesting.await.map_err(|error| self.forget_connection(error))
            }
        })
        .await?;
        let expected = Expected {
            key,
            cluster: self.bot.cluster.clone(),
            trusted_authorities: self.bot.authorities.clone(),
            expires,
            now: self.context.clock.now(),
            clock: self.cluster.clock,
        };
        let credentials = credentials::check(expected, response)?;
        Ok(Issued {
            credentials,
            ssh_proxy: self.cluster.ssh_proxy.clone(),
            tls_routing: self.cluster.tls_routing,
            // With separate ports, ssh goes to a port that has no load balancer for the web in front.
            upgrade: self.cluster.tls_routing && self.upgrade.get(),
            egress: self.context.connection.egress.clone(),
            authorities: self.context.authorities.clone(),
            clock: self.cluster.clock,
        })
    }

    /// The connection to the Auth Service, opened if there is none.
    async fn auth(&self, deadline: Deadline) -> Result<Auth, auth::Error> {
        if let Some(auth) = &*self.auth.borrow() {
            return Ok(auth.with_deadline(deadline));
        }
        let Context { connection, network, .. } = &self.context;
        let (cluster, trust) = (&self.cluster, &self.bot.trust);
        let route = AuthRoute { network, proxy: &connection.addr, cluster, trust };
        let auth = route.connect(self.dialled.take(), &self.bot.cluster, deadline).await?;
        self.upgrade.set(network.upgrades());
        *self.auth.borrow_mut() = Some(auth.clone());
        Ok(auth)
    }

    /// The next attempt opens a connection of its own. A public log does not show the details of a refusal, also if it is
    /// tried again.
    fn forget_connection(&self, error: auth::Error) -> auth::Error {
        self.auth.take();
        match self.context.privacy {
            Privacy::Public => error.without_details(),
            Privacy::Private => error,
        }
    }
}

/// A proof that has expired by our clock is not sent, unless our clock turns out to be wrong.
async fn expect_not_expired(context: &Context<'_>, method: &dyn Method, now: SystemTime) -> Result<(), Failure> {
    let Some(expired) = method.expired(now) else { return Ok(()) };
    let deadline = Deadline::after(ASKING_FOR_THE_TIME.min(context.deadline.left()));
    match discover(context.network, &context.connection.addr, context.clock, deadline).await {
        Ok((cluster, _)) => method.expired(cluster.clock.cluster_time(now)).map_or(Ok(()), Err),
        Err(_) => Err(expired),
    }
}

/// Discovery. With its answer the join learns the cluster's clock, and the keys of the outputs begin to be made.
async fn discover_cluster(
    context: &Context<'_>,
    clock: watch::Sender<Option<Offset>>,
    outputs: usize,
) -> Result<(ClusterInfo, Http, KeyMaker), Failure> {
    let (cluster, http) = discover(context.network, &context.connection.addr, context.clock, context.deadline).await?;
    (context.on_event)(Event::Discovered(&cluster));
    clock.send_replace(Some(cluster.clock));
    let keys = KeyMaker::begin(cluster.suite, outputs);
    Ok((cluster, http, keys))
}

type MakingKey = Pin<Box<dyn Future<Output = Result<KeyPair, keys::Error>>>>;

/// Makes key pairs on threads of their own while the network is busy.
struct KeyMaker {
    suite: Suite,
    making: RefCell<Vec<MakingKey>>,
}

impl KeyMaker {
    fn begin(suite: Suite, count: usize) -> Self {
        let making = (0..count).map(|_| Box::pin(KeyPair::generate_in_background(suite)) as MakingKey);
        Self { suite, making: RefCell::new(making.collect()) }
    }

    /// A key pair for this suite, which differs from the one at the beginning if the cluster's was changed since.
    async fn take(&self, suite: Suite) -> Result<KeyPair, keys::Error> {
        let begun = self.making.borrow_mut().pop().filter(|_| suite == self.suite);
        match begun {
            Some(making) => making.await,
            None => KeyPair::generate_in_background(suite).await,
        }
    }
}

/// A connection to the proxy that is opened before it is needed. It saves time and must not cost any: if it is not open
/// by then, it is given up. That it fails is seen again when the same address is dialled for the call itself.
struct DialAhead(JoinSet<Result<Stream, net::Error>>);

impl DialAhead {
    fn start(context: &Context<'_>) -> Self {
        let mut dialling = JoinSet::new();
        dialling.spawn(context.network.dial_ahead(&context.connection.addr, context.deadline));
        Self(dialling)
    }

    fn take(mut self) -> Option<Stream> {
        self.0.try_join_next()?.ok()?.ok()
    }
}
