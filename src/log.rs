//! Where log events go: standard error, as text for people and as JSON lines for machines.
//!
//! No event carries a secret, a signature or the bytes that were signed, at any level.

use std::fmt;
use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::Subscriber;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable that sets the level, such as `debug` or `countersign=trace,hyper=warn`.
pub const LEVEL_VARIABLE: &str = "COUNTERSIGN_LOG";

/// The form of log events.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// Text on a terminal, JSON lines anywhere else.
    #[default]
    Auto,
    /// One line of text an event.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// Every format, with the name the command line has for it.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Auto, "auto"), (Self::Text, "text"), (Self::Json, "json")];

    fn is_json(self, terminal: bool) -> bool {
        match self {
            Self::Auto => !terminal,
            Self::Text => false,
            Self::Json => true,
        }
    }
}

/// Why logging could not start.
#[derive(Debug)]
pub enum Error {
    /// The level cannot be read: the text, and what is wrong with it.
    Level(String, String),
    /// Something else in this process took the log events first.
    Taken,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level(text, cause) => write!(
                f,
                "log level `{text}`: {cause}; write error, warn, info, debug or trace, or target=level pairs"
            ),
            Self::Taken => f.write_str("log events already go elsewhere"),
        }
    }
}

impl std::error::Error for Error {}

/// Sends every event of this process to standard error. `level` comes before [`LEVEL_VARIABLE`], which
/// comes before `info`.
pub fn start(format: Format, level: Option<&str>) -> Result<(), Error> {
    let filter = filter(level.map(str::to_owned).or_else(|| std::env::var(LEVEL_VARIABLE).ok()))?;
    let events = Subscriber::builder().with_env_filter(filter).with_writer(stderr).with_ansi(false);
    let started = if format.is_json(stderr().is_terminal()) {
        events.json().flatten_event(true).finish().try_init()
    } else {
        events.finish().try_init()
    };
    started.map_err(|_| Error::Taken)
}

fn filter(level: Option<String>) -> Result<EnvFilter, Error> {
    let level = level.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| "info".to_owned());
    let level = level.split(',').map(str::trim).collect::<Vec<_>>().join(",");
    // A lone word that is no level would be read as a target, and everything else be silent.
    let is_stray = |part: &&str| !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err();
    if let Some(stray) = level.split(',').find(is_stray) {
        return Err(Error::Level(level.clone(), format!("`{stray}` is no level")));
    }
    EnvFilter::builder()
        .parse(&level)
        .map_err(|cause| Error::Level(level.clone(), cause.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_and_nonsense_is_refused() {
        for (level, shown) in [
            (None, "info"),
            (Some(" "), "info"),
            (Some("hyper=warn"), "hyper=warn"),
            (Some("WARN"), "warn"),
            (Some("hyper=warn, off"), "hyper=warn,off"),
        ] {
            assert_eq!(filter(level.map(str::to_owned)).unwrap().to_string(), shown);
        }
        for level in ["countersign=loud", "inffo", "info,bogus", "bo gus"] {
            let error = filter(Some(level.to_owned())).unwrap_err();
            assert!(error.to_string().contains(level), "{error}");
        }
    }

    #[test]
    fn json_is_for_machines_unless_told() {
        for (format, terminal, json) in [
            (Format::Auto, true, false),
            (Format::Auto, false, true),
            (Format::Text, false, false),
            (Format::Json, true, true),
        ] {
            assert_eq!(format.is_json(terminal), json, "{format:?} {terminal}");
        }
    }
}
