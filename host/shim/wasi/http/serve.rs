//! A service's life: it listens, hands each connection's requests to instances, finishes what is
//! under way when it is asked to end. What a client can do wrongly costs that client alone.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioTimer;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::handler::{ExpirationError, InstantiationError, ProxyHandler, ProxyPre};
use wasmtime_wasi_http::io::TokioIo;

use super::body::holding;
use super::hands::{Connection, Hands, STAY};
use super::instance::{Life, Living, Maker, Sharing};
use crate::error::cut;
use crate::model::service::ServiceOptions;
use crate::model::sockets::Listen;
use crate::retry;
use crate::shim::cpu::Control;
use crate::shim::guest::{Context, Ended};
use crate::shim::keeping::Keeping;
use crate::shim::kill::Kill;
use crate::shim::ledger::Ledger;
use crate::shim::network::Guard;
use crate::shim::output::Output;
use crate::shim::sockets;
use crate::shim::wasi::component::{Shared, State};

/// How long a client may take for a request's head, and stay without asking anything.
const HEAD: Duration = Duration::from_secs(30);

/// What is served.
pub struct Runs<'a> {
    pub engine: &'a Engine,
    pub pre: Arc<ProxyPre<State>>,
    /// Bytes that an instance takes beside its memories.
    pub footprint: u64,
}

/// Serves on this thread until asked to end and done, or killed.
pub fn run(program: &Runs<'_>, mut context: Context) -> Ended {
    let Some(options) = context.service.clone() else {
        let sentence = "the service has no port: PORT in its environment is no port from 1 to \
                        65535; annotation wasmpod.dev/http.CONTAINER can say port=8080";
        return Ended::NotStarted(sentence.to_owned());
    };
    let keeping = Keeping::begin();
    let runtime = match runtime(&context.control) {
        Ok(runtime) => runtime,
        Err(error) => return Ended::NotStarted(format!("no runtime for the guest: {error}")),
    };
    let (kill, begun) = (context.kill.clone(), context.take_begun());
    let _inside = runtime.enter();
    let listener = match listen(&options, &context.guard) {
        Ok(listener) => listener,
        Err(sentence) => return Ended::NotStarted(sentence),
    };
    let crew = context.crew.take();
    let service = match Service::new(program, context, options) {
        Ok(service) => service,
        Err(sentence) => return Ended::NotStarted(sentence),
    };
    let mut hands = Hands::new(service.clone(), crew);
    let mut ended = runtime.block_on(async {
        begun();
        tokio::select! {
            biased;
            () = kill.killed() => Ended::Killed,
            () = service.serve(listener, &mut hands) => Ended::Exited(0),
            never = service.rest(&keeping) => match never {},
        }
    });
    drop(service);
    hands.join();
    if kill.is_killed() {
        ended = Ended::Killed;
    }
    ended
}

/// What each of a service's threads waits in.
pub fn runtime(control: &Arc<Control>) -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(1).thread_name(control.thread_name('b'));
    let control = control.clone();
    builder.on_thread_start(move || control.adopt());
    builder.build()
}

/// `Err` is one sentence.
fn listen(options: &ServiceOptions, guard: &Guard) -> Result<TcpListener, String> {
    let socket = sockets::listen(&Listen { ip: None, port: options.port }, guard)?;
    TcpListener::from_std(socket.into())
        .map_err(|error| format!("cannot listen on port {}: {error}", options.port))
}

/// A request that an instance is to answer.
pub struct Asked {
    /// Its method and path, for the log.
    what: String,
    since: Instant,
    /// The log knows why it was not answered.
    is_told: AtomicBool,
}

/// Bytes of a request's method and path that the log shows.
const MOST_WHAT: usize = 200;

/// What instances and requests have to say, in the container's log.
pub struct Report {
    stderr: Arc<dyn Output>,
    ledger: Arc<Ledger>,
    patience: Duration,
}

impl Report {
    fn say(&self, text: &str) {
        // A log that takes nothing more is told of elsewhere.
        let _ = self.stderr.write(format!("wasmpod: {text}\n").as_bytes());
    }

    /// An instance ended by itself while it answered these requests, or after them.
    pub fn instance(&self, asked: &[Arc<Asked>], error: &wasmtime::Error) {
        // Its requests' time was up, as each is told.
        if error.to_string() == "guest timed out" {
            return;
        }
        asked.iter().for_each(|asked| asked.is_told.store(true, Ordering::Relaxed));
        let what: Vec<_> = asked.iter().map(|asked| asked.what.as_str()).collect();
        let what = if what.is_empty() { "after its answers".to_owned() } else { what.join(", ") };
        self.say(&format!("{what}: {}", self.describe(error)));
    }

    /// A request was not answered by the guest: what its client is told instead.
    fn request(&self, asked: &Asked, error: &wasmtime::Error) -> StatusCode {
        let Asked { what, since, is_told } = asked;
        if is_told.load(Ordering::Relaxed) {
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        if error.is::<ExpirationError>() || since.elapsed() >= self.patience {
            let seconds = self.patience.as_secs_f64();
            self.say(&format!("{what}: no answer within {seconds} s"));
            return StatusCode::GATEWAY_TIMEOUT;
        }
        match error.downcast_ref::<InstantiationError<Arc<Asked>>>() {
            Some(none) => self.say(&format!("{what}: no instance: {}", self.describe(&none.error))),
            None => self.say(&format!("{what}: {}", self.describe(error))),
        }
        StatusCode::INTERNAL_SERVER_ERROR
    }

    /// The fault in one line, with a trap the backtrace below it.
    fn describe(&self, error: &wasmtime::Error) -> String {
        if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            return format!("the guest ended itself with code {}", exit.0);
        }
        match Ended::from_error(error, &self.ledger) {
            Ended::Killed => "ended".to_owned(),
            Ended::Trapped(text) | Ended::OutOfMemory(text) => text,
            other => format!("{other:?}"),
        }
    }
}

/// A service on one of its threads.
pub struct Service {
    handler: ProxyHandler<Maker>,
    report: Arc<Report>,
    /// Requests that may be under way on all of them.
    turns: Arc<Semaphore>,
    /// Connections of this thread.
    pub connections: Living,
}

impl Service {
    /// `Err` is one sentence.
    fn new(
        program: &Runs<'_>,
        context: Context,
        options: ServiceOptions,
    ) -> Result<Arc<Self>, String> {
        let shared = Shared::open(&context)?;
        let patience = options.timeout;
        let (stderr, ledger) = (context.stderr.clone(), context.ledger.clone());
        let report = Arc::new(Report { stderr, ledger, patience });
        let maker = Maker {
            engine: program.engine.clone(),
            sharing: Sharing::of(&program.pre, options.reuse),
            pre: program.pre.clone(),
            footprint: program.footprint,
            surroundings: context,
            shared,
            patience,
            report: report.clone(),
            living: Living::default(),
        };
        let turns = Arc::new(Semaphore::new(options.requests as usize));
        let (handler, connections) = (ProxyHandler::new(maker), Living::default());
        Ok(Arc::new(Self { handler, report, turns, connections }))
    }

    /// The same for another thread.
    pub fn again(&self) -> Arc<Self> {
        Arc::new(Self {
            handler: ProxyHandler::new(self.handler.state().again()),
            report: self.report.clone(),
            turns: self.turns.clone(),
            connections: Living::default(),
        })
    }

    pub fn kill(&self) -> Arc<Kill> {
        self.handler.state().surroundings.kill.clone()
    }

    pub fn control(&self) -> Arc<Control> {
        self.handler.state().surroundings.control.clone()
    }

    /// Returns once asked to end and all that was under way is done.
    async fn serve(&self, listener: TcpListener, hands: &mut Hands) {
        let open = GracefulShutdown::new();
        let kill = self.kill();
        let mut asked = std::pin::pin!(kill.asked());
        loop {
            let (stream, _) = tokio::select! {
                biased;
                () = &mut asked => break,
                accepted = retry::until_ok(|| listener.accept()) => accepted,
            };
            // Over its limit the container's clients are turned away, nobody else's.
            let Some(permit) = self.handler.state().surroundings.ledger.socket() else {
                continue;
            };
            // Answers are whole pieces: none waits for the next.
            let _ = stream.set_nodelay(true);
            if let Ok(stream) = stream.into_std() {
                hands.give(&open, Connection { stream, permit });
            }
        }
        drop(listener);
        self.finish(open).await;
    }

    /// Lets go what this thread keeps whenever it has been without connections for a while.
    async fn rest(&self, keeping: &Keeping) -> Infallible {
        loop {
            self.connections.some().await;
            self.connections.none().await;
            if tokio::time::timeout(STAY, self.connections.some()).await.is_err() {
                keeping.let_go();
            }
        }
    }

    /// Waits until what is under way on this thread is done.
    pub async fn finish(&self, open: GracefulShutdown) {
        open.shutdown().await;
        self.handler.state().living.none().await;
    }

    /// Serves one connection beside the others of this thread.
    pub fn take(self: Arc<Self>, open: &GracefulShutdown, connection: Connection, life: Life) {
        let Connection { stream, permit } = connection;
        // Without a place among the runtime's descriptors it is closed.
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        let answer = move |request| {
            let service = self.clone();
            async move { Ok::<_, Infallible>(service.answer(request).await) }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        let connection = open.watch(connection);
        tokio::spawn(async move {
            // How a client broke off is its own affair.
            let _ = connection.await;
            drop((permit, life));
        });
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<WasiBody> {
        // Nobody closes it.
        let turn = self.turns.clone().acquire_owned().await.ok();
        let what = cut(format!("{} {}", request.method(), request.uri().path()), MOST_WHAT);
        let asked = Asked { what, since: Instant::now(), is_told: AtomicBool::new(false) };
        let asked = Arc::new(asked);
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        match self.handler.handle(asked.clone(), request).await {
            Ok(response) => response.map(|body| holding(body, turn)),
            Err(error) => {
                let status = self.report.request(&asked, &error);
                let text = format!("{status}\n");
                let body = Full::new(Bytes::from(text)).map_err(Into::into).boxed_unsync();
                let mut response = Response::new(body);
                *response.status_mut() = status;
                response
            }
        }
    }
}
