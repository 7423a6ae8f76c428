//! What one request costs in metrics.

use std::hint::black_box;
use std::time::Duration;

use countersign::clock::Micros;
use countersign::denial::Denial;
use countersign::metrics::{
    Labels, Metrics, Outcome, RouteLabels, UpstreamLabels, UpstreamOutcome,
};
use criterion::{Criterion, criterion_group, criterion_main};

fn request(criterion: &mut Criterion) {
    let metrics = Metrics::new(&Labels {
        routes: &[RouteLabels { name: "order", dialect: Some("binance") }],
        upstreams: &[UpstreamLabels { name: "matching", backends: 1 }],
        dialects: &[],
        stores: &[],
        listeners: &[],
    })
    .expect("the labels are valid");
    let worker = metrics.worker();
    let now = Micros::from_millis(1_700_000_000_000);
    let took = Duration::from_micros(180);

    criterion.bench_function("metrics/finish", |bencher| {
        bencher.iter(|| worker.route(black_box(0)).finish(Outcome::Accepted, black_box(took)));
    });
    criterion.bench_function("metrics/accepted request, all of it", |bencher| {
        bencher.iter(|| {
            let route = worker.route(black_box(0));
            route.admitted(black_box(Duration::from_nanos(900)));
            route.skew(black_box(now - Duration::from_millis(20)), now);
            if let Some(upstream) = worker.upstream(0) {
                upstream.finish(UpstreamOutcome::Ok, black_box(took));
            }
            route.finish(Outcome::Accepted, black_box(took));
        });
    });
    criterion.bench_function("metrics/rejected request, all of it", |bencher| {
        bencher.iter(|| {
            let route = worker.route(black_box(0));
            route.denied(black_box(&Denial::Replayed), Duration::from_nanos(900));
            route.finish(Outcome::Rejected, black_box(took));
        });
    });
}

criterion_group!(benches, request);
criterion_main!(benches);
