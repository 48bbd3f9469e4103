//! The kinds of frames: numbers that stay what they are.

/// What a frame holds. The numbers are the format: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// First frame of each segment.
    Segment = 1,
    /// The agent began to write.
    Start = 2,
    /// The agent ended in order.
    Stop = 3,
    /// A start found frames that were cut short.
    Recovered = 4,
    /// A segment was given up after a failed write or sync.
    GivenUp = 5,
    /// An old segment was deleted to keep the size bound.
    Deleted = 6,
    /// A log of a writer that drained has ended.
    LogEnd = 7,
    /// A key that checkpoints are signed with from now on.
    Key = 8,
    /// The agent lives.
    Heartbeat = 9,
    /// A bodies file began: who its key is sealed for.
    BodyKey = 10,
    /// Somebody read bodies.
    Read = 11,
    /// Keys of bodies were destroyed.
    Erased = 12,
    /// A session began.
    Session = 16,
    /// Its TLS legs.
    Tls = 17,
    /// It ended.
    SessionEnd = 18,
    /// An exchange began: the request's head.
    Exchange = 32,
    /// The answer's head.
    Response = 33,
    /// Trailers, either way.
    Trailers = 34,
    /// Bytes of a body, raw.
    Body = 35,
    /// An exchange ended: its summary.
    ExchangeEnd = 36,
    /// Where bytes of a body lie, sealed.
    BodyRef = 37,
    /// Sealed bytes that their bodies file did not take.
    Diverted = 38,
}

impl Kind {
    /// The kind with this number; `None` for one that a later version added.
    pub fn of(number: u8) -> Option<Self> {
        use Kind::*;
        [
            Segment,
            Start,
            Stop,
            Recovered,
            GivenUp,
            Deleted,
            LogEnd,
            Key,
            Heartbeat,
            BodyKey,
            Read,
            Erased,
            Session,
            Tls,
            SessionEnd,
            Exchange,
            Response,
            Trailers,
            Body,
            ExchangeEnd,
            BodyRef,
            Diverted,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}
