//! What the pages share: the frame with its style and script, text, and decoded structures.

mod structures;
mod text;

use std::fmt::{self, Write};

pub(super) use structures::Structures;
pub(super) use text::{Text, anchor};

use text::script_json;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Begins a page, which needs nothing beside itself: its policy lets no browser load more.
pub(super) fn begin(out: &mut String, title: &str) -> fmt::Result {
    write!(
        out,
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><meta name=viewport \
         content=\"width=device-width\"><meta http-equiv=Content-Security-Policy \
         content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\
         <title>{}</title><style>{STYLE}</style><body>",
        Text(title)
    )
}

/// Ends a page with what a click on `data-s` shows.
pub(super) fn end(out: &mut String, structures: Structures) -> fmt::Result {
    write!(
        out,
        "<aside id=panel hidden tabindex=-1 aria-live=polite></aside><script \
         type=application/json id=structures>{}</script><script>{SCRIPT}</script></html>",
        script_json(&structures.into_json())
    )
}
