//! libyaml's parser behind a safe interface: events with their marks.
//!
//! Promises: every string is copied before libyaml frees it; a parser outlives neither its text nor its events.

use std::{
    ffi::{CStr, c_char},
    marker::PhantomData,
    mem::MaybeUninit,
    pin::Pin,
};

use unsafe_libyaml as unsafe_yaml;

/// Names what the parser has come upon.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    StreamEnd,
    DocumentStart,
    Alias {
        anchor: String,
    },
    Scalar(Scalar),
    ListStart {
        anchor: Option<String>,
    },
    ListEnd,
    MapStart {
        anchor: Option<String>,
    },
    MapEnd,
    /// The ends of documents and the begin of the stream, which say nothing.
    Other,
}

#[derive(Debug, PartialEq)]
pub(super) struct Scalar {
    pub anchor: Option<String>,
    /// Gives it as it is when its handle is resolved, `tag:yaml.org,2002:str`.
    pub tag: Option<String>,
    pub text: String,
    /// Has neither quotes nor a block.
    pub plain: bool,
}

/// The reason why the parser cannot go on, in libyaml's words. Places are in characters from the begin of the text.
#[derive(Debug)]
pub(super) struct Problem {
    pub message: String,
    pub at: usize,
    /// The place where begins what is wrong.
    pub begins: usize,
}

/// The parser of one text.
pub(super) struct Parser<'a> {
    parser: Pin<Box<unsafe_yaml::yaml_parser_t>>,
    text: PhantomData<&'a str>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Parser<'a> {
        let mut parser = Box::<unsafe_yaml::yaml_parser_t>::new_uninit();
        // SAFETY: initializing fills all of the memory, and aborts where there is none to be had. The parser is never moved,
        // and reads the text, which outlives it, only up to its length.
        unsafe {
            // It says nothing but that there was memory.
            let _ = unsafe_yaml::yaml_parser_initialize(parser.as_mut_ptr());
            let mut parser = Pin::from(parser.assume_init());
            let raw = &raw mut *parser;
            unsafe_yaml::yaml_parser_set_encoding(raw, unsafe_yaml::YAML_UTF8_ENCODING);
            unsafe_yaml::yaml_parser_set_input_string(raw, text.as_ptr(), text.len() as u64);
            Parser { parser, text: PhantomData }
        }
    }

    /// Returns the next event, and the number of characters before it.
    ///
    /// # Errors
    /// [`Problem`]; nothing comes after it.
    pub(super) fn next(&mut self) -> Result<(Event, usize), Problem> {
        let mut event = MaybeUninit::<unsafe_yaml::yaml_event_t>::uninit();
        // SAFETY: parsing fills the event exactly when it succeeds; it is read before it is freed, once. Pointers in it are
        // null or strings of libyaml's that live as long as the event.
        unsafe {
            if unsafe_yaml::yaml_parser_parse(&raw mut *self.parser, event.as_mut_ptr()).fail {
                return Err(self.problem());
            }
            let mut event = event.assume_init();
            let read = (read_event(&event), event.start_mark.index as usize);
            unsafe_yaml::yaml_event_delete(&raw mut event);
            Ok(read)
        }
    }

    fn problem(&self) -> Problem {
        let words = |text: *const c_char| {
            // SAFETY: libyaml's complaints are null or static strings.
            (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        let problem = words(self.parser.problem.cast()).unwrap_or_default();
        let at = self.parser.problem_mark.index as usize;
        let (message, begins) = match words(self.parser.context.cast()) {
            Some(context) => (format!("{context}, {problem}"), self.parser.context_mark.index as usize),
            None => (problem, at),
        };
        Problem { message, at, begins }
    }
}

impl Drop for Parser<'_> {
    fn drop(&mut self) {
        // SAFETY: it was initialized, and nobody has it any more.
        unsafe { unsafe_yaml::yaml_parser_delete(&raw mut *self.parser) }
    }
}

/// # Safety
/// The event is one that libyaml has filled and not freed.
unsafe fn read_event(event: &unsafe_yaml::yaml_event_t) -> Event {
    let string = |text: *mut u8| {
        // SAFETY: null, or a string of the event's that ends with a zero.
        (!text.is_null())
            .then(|| unsafe { CStr::from_ptr(text.cast::<c_char>()) }.to_string_lossy().into_owned())
    };
    // SAFETY: the type says which of the union's variants was filled.
    unsafe {
        match event.type_ {
            unsafe_yaml::YAML_STREAM_END_EVENT => Event::StreamEnd,
            unsafe_yaml::YAML_DOCUMENT_START_EVENT => Event::DocumentStart,
            unsafe_yaml::YAML_ALIAS_EVENT => {
                Event::Alias { anchor: string(event.data.alias.anchor).unwrap_or_default() }
            }
            unsafe_yaml::YAML_SCALAR_EVENT => {
                let scalar = &event.data.scalar;
                // A text may hold zeroes.
                let bytes = std::slice::from_raw_parts(scalar.value, scalar.length as usize);
                Event::Scalar(Scalar {
                    anchor: string(scalar.anchor),
                    tag: string(scalar.tag),
                    text: String::from_utf8_lossy(bytes).into_owned(),
                    plain: scalar.style == unsafe_yaml::YAML_PLAIN_SCALAR_STYLE,
                })
            }
            unsafe_yaml::YAML_SEQUENCE_START_EVENT => {
                Event::ListStart { anchor: string(event.data.sequence_start.anchor) }
            }
            unsafe_yaml::YAML_SEQUENCE_END_EVENT => Event::ListEnd,
            unsafe_yaml::YAML_MAPPING_START_EVENT => {
                Event::MapStart { anchor: string(event.data.mapping_start.anchor) }
            }
            unsafe_yaml::YAML_MAPPING_END_EVENT => Event::MapEnd,
            _ => Event::Other,
        }
    }
}
