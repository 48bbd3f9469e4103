//! What can be wrong with an HTTP/1 request, each with the words that its sender is told.

/// Why a request has no single meaning, or too much of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// LF without CR.
    #[error("a line ends with a bare line feed")]
    BareLf,
    /// CR, NUL or another control octet in a field's value.
    #[error("a field's value holds a control character")]
    ControlInValue,
    /// Nothing before the line end where a request line or field belongs.
    #[error("an empty line stands where a request belongs")]
    EmptyLine,
    /// More than [`super::HEAD_MAX`] octets.
    #[error("the request's head is longer than 65536 octets")]
    HeadTooLong,
    /// More than [`super::FIELDS_MAX`] fields.
    #[error("the request has more than 256 fields")]
    TooManyFields,
    /// More than [`super::TRAILERS_MAX`] octets.
    #[error("the trailer section is longer than 16384 octets")]
    TrailersTooLong,
    /// No token, or longer than 32 octets.
    #[error("the method is no token of at most 32 characters")]
    Method,
    /// Octets that no request target holds.
    #[error("the request target holds a character that it may not")]
    Target,
    /// A form that the method does not take.
    #[error("the request target's form does not fit the method")]
    TargetForm,
    /// Neither 1.0 nor 1.1, or none.
    #[error("the request line does not end in HTTP/1.0 or HTTP/1.1")]
    Version,
    /// A line that begins with space or tab.
    #[error("a field is folded over two lines")]
    Folded,
    /// A field without a name, with octets that no name holds, with space before the colon, or without colon.
    #[error("a field's name is no token followed by a colon")]
    FieldName,
    /// HTTP/1.1 without Host.
    #[error("the request has no Host")]
    HostMissing,
    /// Two of them.
    #[error("the request has more than one Host")]
    HostTwice,
    /// No host and port.
    #[error("Host is no host name or address with an optional port")]
    Host,
    /// The absolute target names another host.
    #[error("Host and the request target name different hosts")]
    HostDisagrees,
    /// Not digits only, or leading zeros.
    #[error("Content-Length is no plain decimal number")]
    ContentLength,
    /// Two of them.
    #[error("the request has more than one Content-Length")]
    ContentLengthTwice,
    /// Both of them.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    TwoLengths,
    /// Anything but `chunked`, or twice, or in HTTP/1.0.
    #[error("Transfer-Encoding is not exactly one 'chunked' in HTTP/1.1")]
    TransferEncoding,
    /// A field whose name a server may take for one that frames the message.
    #[error("a field's name looks like one that frames the message")]
    Lookalike,
    /// Connection names a field that frames or routes the message.
    #[error("Connection names a field that must not be taken out")]
    Connection,
    /// Anything but `100-continue`.
    #[error("the only expectation that is understood is 100-continue")]
    Expect,
    /// A body on CONNECT or TRACE.
    #[error("the method takes no body")]
    BodyOnMethod,
    /// Not 1 to 16 hexadecimal digits and CRLF.
    #[error("a chunk's size is not 1 to 16 hexadecimal digits and CRLF")]
    ChunkSize,
    /// `;` and what follows it.
    #[error("a chunk has an extension")]
    ChunkExtension,
    /// Data longer than announced.
    #[error("a chunk's data does not end where its size says")]
    ChunkEnd,
    /// Framing, routing or control fields in trailers.
    #[error("the trailer section holds a field that belongs in the head")]
    TrailerField,
    /// The head did not come in time (not the codec's to find: it has no clock).
    #[error("the request's head did not come within 30 seconds")]
    TooSlow,
}

impl Violation {
    /// The status that says it best (RFC 9110 §15.5, RFC 6585 §5).
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLong | Self::TooManyFields | Self::TrailersTooLong => 431,
            Self::Version => 505,
            Self::Expect => 417,
            Self::TooSlow => 408,
            _ => 400,
        }
    }

    /// Fields that RFC 9110 §6.5.1 keeps out of trailers because they frame, route or control the message.
    pub(super) fn if_forbidden_in_trailers(name: &[u8]) -> Option<Self> {
        const FORBIDDEN: [&[u8]; 12] = [
            b"content-length",
            b"content_length",
            b"transfer-encoding",
            b"transfer_encoding",
            b"host",
            b"connection",
            b"upgrade",
            b"te",
            b"trailer",
            b"expect",
            b"authorization",
            b"content-encoding",
        ];
        FORBIDDEN.iter().any(|f| f.eq_ignore_ascii_case(name)).then_some(Self::TrailerField)
    }
}
