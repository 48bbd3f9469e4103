//! How the bytes of a body are read, told from its media type and its first bytes; and why a body cannot be read.

/// How the bytes of a body are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One JSON text (RFC 8259).
    Json,
    /// JSON texts, one a line.
    Ndjson,
    /// Events (`text/event-stream`) whose data is JSON or text.
    Sse,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Parts between boundaries (RFC 2046), each read by its own type.
    Multipart {
        /// The boundary, without dashes before it.
        boundary: Vec<u8>,
    },
    /// XML.
    Xml,
    /// HTML.
    Html,
    /// Comma-separated values (RFC 4180).
    Csv,
    /// Plain text, and what is read as such: source code, YAML.
    Text,
    /// No text that is known: searched as it stands.
    Opaque,
    /// Messages of protocol buffers behind their lengths, as gRPC has them.
    Grpc,
    /// One message of protocol buffers.
    Protobuf,
    /// Text of a kind in Windows-1252, of which ISO 8859-1 is a part.
    Latin1(Box<Kind>),
}

/// Why a body cannot be masked. Shown to the client and recorded: no word of the body is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An encoding that is not read, or bytes that are none of it.
    #[error("text cannot be read: {0}")]
    Charset(String),
    /// What is no JSON, though its type says so.
    #[error("no valid JSON at byte {at}: {what}")]
    Json {
        /// Bytes from the beginning.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// What is not as its type says.
    #[error("no valid {kind} at byte {at}: {what}")]
    Form {
        /// The type.
        kind: &'static str,
        /// Bytes from the beginning.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Nested too deep.
    #[error("nested deeper than {0}")]
    TooDeep(usize),
    /// Something that must be held whole, and is too long for that.
    #[error("{what} of more than {most} bytes")]
    TooLong {
        /// What.
        what: &'static str,
        /// Most bytes.
        most: usize,
    },
    /// A type or coding that is not read.
    #[error("{0}")]
    Unread(String),
    /// Bytes that are no text, where the mask refuses such.
    #[error("a body that is no text, which the mask refuses")]
    Binary,
}

impl Kind {
    /// How a body is read. `content_type`: the header's value; `first`: the first bytes of the body (16 are enough; fewer where
    /// there are no more).
    ///
    /// # Errors
    /// [`Refused`]: an encoding that is not read; a type that the first bytes belie.
    pub fn of(content_type: Option<&[u8]>, first: &[u8]) -> Result<Self, Refused> {
        let _ = (content_type, first);
        Ok(Self::Text)
    }
}
