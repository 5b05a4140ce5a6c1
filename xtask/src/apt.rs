//! The machine's own apt sources: which Debian mirror it uses and which keys it trusts.

use std::fs;
use std::path::{Path, PathBuf};

const APT_FOLDER: &str = "/etc/apt";
const CODENAMES: [&str; 11] = [
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "sid",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
];
const VARIANTS: [&str; 4] = ["updates", "backports", "backports-sloppy", "proposed-updates"];

/// A Debian archive and its configured `Signed-By` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) uri: String,
    signed_by: Option<String>,
}

impl Mirror {
    /// A deb822 source for these suites, with the machine's own verification.
    pub(crate) fn source(&self, suites: &[&str], architecture: &str) -> String {
        let mut source = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nArchitectures: {architecture}\n\
             Targets: Packages\n",
            self.uri,
            suites.join(" "),
        );
        if let Some(signed_by) = &self.signed_by {
            source.push_str("Signed-By: ");
            source.push_str(signed_by);
            source.push('\n');
        }
        source
    }
}

/// The Debian mirrors in apt's configuration, the likeliest first.
pub(crate) fn configured_mirrors() -> Vec<Mirror> {
    mirrors(&configured())
}

/// deb822 sources of the machine's own Debian release with its updates, for an architecture.
///
/// Programs from there run with the machine's own C library. `None` without a Debian source.
pub(crate) fn own_release(architecture: &str) -> Option<String> {
    release_source(&configured(), architecture)
}

fn configured() -> Vec<AptSource> {
    let folder = Path::new(APT_FOLDER);
    let mut sources = read(&folder.join("sources.list"));
    let mut files: Vec<PathBuf> = fs::read_dir(folder.join("sources.list.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|file| file.path())
        .collect();
    files.sort();
    sources.extend(files.iter().flat_map(|file| read(file)));
    sources
}

fn read(file: &Path) -> Vec<AptSource> {
    // An unreadable file counts as empty.
    let text = fs::read_to_string(file).unwrap_or_default();
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("list") => parse_list(&text),
        Some("sources") => parse_deb822(&text),
        _ => Vec::new(),
    }
}

/// One source of binary packages.
#[derive(Debug, Default, PartialEq, Eq)]
struct AptSource {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// The one-line format: `deb [option=value ...] URI SUITE COMPONENT...`.
fn parse_list(text: &str) -> Vec<AptSource> {
    text.lines().filter_map(parse_list_line).collect()
}

fn parse_list_line(line: &str) -> Option<AptSource> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    let mut signed_by = None;
    if let Some(bracketed) = rest.trim_start().strip_prefix('[') {
        let (options, behind) = bracketed.split_once(']')?;
        signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned);
        rest = behind;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(AptSource {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by,
    })
}

/// The deb822 format: paragraphs of `Field: value`, continued on indented lines.
fn parse_deb822(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(source_of(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim_end());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn source_of(fields: &[(String, String)]) -> Option<AptSource> {
    let field = |wanted: &str| {
        fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    let words = |wanted: &str| -> Vec<String> {
        let value = field(wanted).unwrap_or_default();
        value.split_whitespace().map(str::to_owned).collect()
    };
    let off = ["no", "false", "without", "off", "disable", "0"];
    if field("enabled").is_some_and(|value| off.contains(&value.to_ascii_lowercase().as_str())) {
        return None;
    }
    if !words("types").iter().any(|kind| kind == "deb") {
        return None;
    }
    Some(AptSource {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").map(str::to_owned),
    })
}

fn mirrors(sources: &[AptSource]) -> Vec<Mirror> {
    let mut mirrors: Vec<Mirror> = Vec::new();
    for source in sources {
        let serves_debian = source.suites.iter().any(|suite| is_debian_suite(suite))
            && source.components.iter().any(|component| component == "main");
        if !serves_debian {
            continue;
        }
        for uri in &source.uris {
            let mirror = Mirror { uri: uri.clone(), signed_by: source.signed_by.clone() };
            if can_serve(uri) && !mirrors.contains(&mirror) {
                mirrors.push(mirror);
            }
        }
    }
    // Other archives also use Debian's suite names, so mirrors that say Debian go first.
    mirrors.sort_by_key(|mirror| !says_debian(mirror));
    mirrors
}

fn release_source(sources: &[AptSource], architecture: &str) -> Option<String> {
    let mut paragraphs = Vec::new();
    for source in sources {
        if !source.components.iter().any(|component| component == "main") {
            continue;
        }
        let suites: Vec<&str> = source
            .suites
            .iter()
            .map(String::as_str)
            .filter(|suite| is_release_suite(suite))
            .collect();
        for uri in source.uris.iter().filter(|uri| is_fetched(uri)) {
            let mirror = Mirror { uri: uri.clone(), signed_by: source.signed_by.clone() };
            // Other archives also use Debian's suite names. Their packages must not mix in.
            if !suites.is_empty() && (says_debian(&mirror) || uri.contains("debian-security")) {
                paragraphs.push(mirror.source(&suites, architecture));
            }
        }
    }
    (!paragraphs.is_empty()).then(|| paragraphs.join("\n"))
}

/// A release itself, its updates and its security updates.
fn is_release_suite(suite: &str) -> bool {
    let (codename, variant) = match suite.split_once(['-', '/']) {
        Some((codename, variant)) => (codename, Some(variant)),
        None => (suite, None),
    };
    CODENAMES.contains(&codename) && matches!(variant, None | Some("updates" | "security"))
}

fn is_debian_suite(suite: &str) -> bool {
    let (codename, variant) = match suite.split_once('-') {
        Some((codename, variant)) => (codename, Some(variant)),
        None => (suite, None),
    };
    CODENAMES.contains(&codename) && variant.is_none_or(|variant| VARIANTS.contains(&variant))
}

fn can_serve(uri: &str) -> bool {
    is_fetched(uri) && !uri.contains("security")
}

fn is_fetched(uri: &str) -> bool {
    let scheme = uri.split(':').next().unwrap_or_default();
    // A mirror list (`mirror+file:` and the like) ends in http or https as well.
    matches!(scheme, "http" | "https" | "mirror") || scheme.starts_with("mirror+")
}

fn says_debian(mirror: &Mirror) -> bool {
    let archive_key = mirror.signed_by.as_deref().unwrap_or_default();
    archive_key.contains("debian-archive") || mirror.uri.trim_end_matches('/').ends_with("/debian")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_LINE: &str = "\
# deb http://commented.example/debian trixie main
deb-src http://source.example/debian trixie main
deb [arch=amd64 signed-by=/keys/vendor.gpg] https://vendor.example/apt trixie main
deb http://mirror.example/debian trixie main contrib # the usual one
deb\thttp://mirror.example/debian-security\ttrixie-security main
deb [trusted=yes] cdrom:[disc] trixie main
deb http://flat.example/ ./
";

    const DEB822: &str = "\
Types: deb deb-src
# a comment inside of a paragraph
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main
";

    fn uris(sources: &[AptSource]) -> Vec<String> {
        mirrors(sources).into_iter().map(|mirror| mirror.uri).collect()
    }

    #[test]
    fn one_line_sources() {
        let sources = parse_list(ONE_LINE);
        assert_eq!(
            sources[0],
            AptSource {
                uris: vec!["https://vendor.example/apt".into()],
                suites: vec!["trixie".into()],
                components: vec!["main".into()],
                signed_by: Some("/keys/vendor.gpg".into()),
            }
        );
        assert_eq!(sources[1].components, ["main", "contrib"]);
        assert_eq!(sources[2].suites, ["trixie-security"]);
        assert_eq!(uris(&sources), ["http://mirror.example/debian", "https://vendor.example/apt"]);
    }

    #[test]
    fn deb822_sources() {
        let sources = parse_deb822(DEB822);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(
            mirrors(&sources),
            [Mirror {
                uri: "http://mirror.example/debian".into(),
                signed_by: Some("/usr/share/keyrings/debian-archive-keyring.gpg".into()),
            }]
        );
    }

    #[test]
    fn an_embedded_key_stays_whole() {
        let key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----";
        let text = format!(
            "Types: deb\nURIs: https://m.example/debian\nSuites: sid\nComponents: main\nSigned-By:{key}\n"
        );
        let found = mirrors(&parse_deb822(&text));
        let source = found[0].source(&["trixie", "trixie-backports"], "arm64");
        assert!(source.contains("Suites: trixie trixie-backports\n"));
        assert!(source.contains("Architectures: arm64\n"));
        assert_eq!(mirrors(&parse_deb822(&source))[0], found[0]);
        assert!(source.ends_with(&format!("{key}\n")), "{source}");
    }

    #[test]
    fn only_debian_suites_count() {
        for suite in ["trixie", "bookworm-backports", "sid", "stable-updates"] {
            assert!(is_debian_suite(suite), "{suite}");
        }
        for suite in ["noble", "trixie-security", "bookworm-pgdg", "trixie/updates", "./"] {
            assert!(!is_debian_suite(suite), "{suite}");
        }
    }

    #[test]
    fn the_own_release_has_its_updates_and_security_updates() {
        let source = release_source(&parse_deb822(DEB822), "amd64").unwrap();
        let suites: Vec<&str> = source.lines().filter(|line| line.starts_with("Suites")).collect();
        assert_eq!(suites, ["Suites: bookworm bookworm-updates", "Suites: bookworm-security"]);
        assert_eq!(parse_deb822(&source).len(), 2, "{source}");
        // No backports, and no archive that only borrows Debian's suite names.
        let source = release_source(
            &parse_list(
                "deb http://m.example/debian trixie main\n\
                 deb http://m.example/debian trixie-backports main\n\
                 deb https://vendor.example/apt trixie main\n",
            ),
            "arm64",
        );
        let source = source.unwrap();
        assert!(source.contains("Suites: trixie\n"), "{source}");
        assert!(!source.contains("backports") && !source.contains("vendor"), "{source}");
        assert_eq!(
            release_source(&parse_list("deb http://u.example/ubuntu noble main"), "x"),
            None
        );
    }

    #[test]
    fn a_mirror_list_is_a_mirror() {
        let sources = parse_list("deb mirror+file:/etc/apt/mirrors/debian.list sid main\n");
        assert_eq!(uris(&sources), ["mirror+file:/etc/apt/mirrors/debian.list"]);
    }

    #[test]
    fn broken_sources_are_left_out() {
        assert_eq!(parse_list("deb [arch=amd64 http://m.example/debian sid main"), []);
        assert_eq!(parse_list("deb http://m.example/debian"), []);
        assert_eq!(parse_deb822(" indented\n:\nno colon"), []);
    }
}
