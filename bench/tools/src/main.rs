//! Load generators for the benchmark: each subcommand does one thing and prints one line of JSON.
//!
//! They speak HTTP/1.1 over plain sockets, so that on a machine of few cores the load costs little beside the server.

mod args;
mod client;
mod content;
mod count;
mod disk;
mod fill;
mod guess;
mod load;
mod pull;
mod push;
mod respond;
mod stream;
mod tls;

use args::{Args, Failure};

const USAGE: &str = "usage: bench-tools <command> [--key value]...
  respond --listen ADDR --body FILE [--header 'K: V']...             bare hyper responder: one fixed answer
  push    --addr ADDR --repo NAME --size BYTES --mode mono|stream [--clients N] [--count N] [--seed N]
  pull    --addr ADDR --path PATH --size BYTES [--clients N] [--seconds S] [--min-requests N] [TLS]
  load    --addr ADDR --path PATH [--method GET|HEAD] [--header 'K: V']... [--connections N] [--seconds S] [--min-requests N]
          [--pause-ms MS] [--reconnect full|resumed] [TLS]
  guess   --addr ADDR --path PATH --username NAME [--clients N] [--seconds S]    wrong passwords
  fill    --addr ADDR --what tags|repos|blobs --repo NAME --count N [--clients N] [--limit-seconds S]
  disk    --dir DIR --size BYTES [--clients N] [--count N]            synced writes, the disk's own speed
  count   --listen ADDR --to ADDR --control ADDR                      counting proxy in front of an S3 server
TLS: --tls CA.pem [--cert CERT.pem --key KEY.pem]";

fn main() {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let outcome = Args::parse(words).and_then(|args| run(&command, &args));
    if let Err(failure) = outcome {
        eprintln!("bench-tools {command}: {failure}");
        std::process::exit(1);
    }
}

fn run(command: &str, args: &Args) -> Result<(), Failure> {
    match command {
        "respond" => respond::run(args),
        "push" => push::run(args),
        "pull" => pull::run(args),
        "load" => load::run(args),
        "fill" => fill::run(args),
        "guess" => guess::run(args),
        "disk" => disk::run(args),
        "count" => count::run(args),
        _ => Err(USAGE.into()),
    }
}
