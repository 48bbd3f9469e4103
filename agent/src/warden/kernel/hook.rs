//! The hooks: what each is called in the object, by the kernel and by systemd.

/// Where a program attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TCP's milestones.
    Established,
    /// getpeername() on IPv4 sockets.
    GetPeerName4,
    /// getpeername() on IPv6 sockets.
    GetPeerName6,
    /// recvmsg() on IPv4 datagram sockets.
    RecvMsg4,
    /// recvmsg() on IPv6 datagram sockets.
    RecvMsg6,
    /// socket() for IPv4 and IPv6.
    Create,
    /// setsockopt().
    Options,
    /// bind() on IPv4 sockets.
    Bind4,
    /// bind() on IPv6 sockets.
    Bind6,
    /// Every packet that a socket receives.
    Inward,
    /// Every packet that a socket sends.
    Outward,
    /// sendmsg() with an address on IPv4 datagram sockets.
    SendMsg4,
    /// sendmsg() with an address on IPv6 datagram sockets.
    SendMsg6,
    /// connect() on IPv4 sockets.
    Connect4,
    /// connect() on IPv6 sockets.
    Connect6,
}

impl Hook {
    /// In the order in which they are attached: what rewrites comes last, when all that must know of it listens and
    /// what goes past it is stopped.
    pub const ALL: [Self; 15] = [
        Self::Established,
        Self::GetPeerName4,
        Self::GetPeerName6,
        Self::RecvMsg4,
        Self::RecvMsg6,
        Self::Create,
        Self::Options,
        Self::Bind4,
        Self::Bind6,
        Self::Inward,
        Self::Outward,
        Self::SendMsg4,
        Self::SendMsg6,
        Self::Connect4,
        Self::Connect6,
    ];

    /// The program's name in the object.
    pub fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::GetPeerName4 => "getpeername4",
            Self::GetPeerName6 => "getpeername6",
            Self::RecvMsg4 => "recvmsg4",
            Self::RecvMsg6 => "recvmsg6",
            Self::Create => "create",
            Self::Options => "options",
            Self::Bind4 => "bind4",
            Self::Bind6 => "bind6",
            Self::Inward => "inward",
            Self::Outward => "outward",
            Self::SendMsg4 => "sendmsg4",
            Self::SendMsg6 => "sendmsg6",
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
        }
    }

    /// `enum bpf_attach_type` of the kernel.
    pub(super) fn attach_type(self) -> u32 {
        match self {
            Self::Inward => 0,
            Self::Outward => 1,
            Self::Create => 2,
            Self::Established => 3,
            Self::Bind4 => 8,
            Self::Bind6 => 9,
            Self::Connect4 => 10,
            Self::Connect6 => 11,
            Self::SendMsg4 => 14,
            Self::SendMsg6 => 15,
            Self::RecvMsg4 => 19,
            Self::RecvMsg6 => 20,
            Self::Options => 22,
            Self::GetPeerName4 => 29,
            Self::GetPeerName6 => 30,
        }
    }

    /// The type's name in systemd's `BPFProgram=` (systemd 249), which has none for getpeername.
    pub fn systemd_type(self) -> Option<&'static str> {
        match self {
            Self::Inward => Some("ingress"),
            Self::Outward => Some("egress"),
            Self::Create => Some("sock_create"),
            Self::Established => Some("sock_ops"),
            Self::Bind4 => Some("bind4"),
            Self::Bind6 => Some("bind6"),
            Self::Connect4 => Some("connect4"),
            Self::Connect6 => Some("connect6"),
            Self::SendMsg4 => Some("sendmsg4"),
            Self::SendMsg6 => Some("sendmsg6"),
            Self::RecvMsg4 => Some("recvmsg4"),
            Self::RecvMsg6 => Some("recvmsg6"),
            Self::Options => Some("setsockopt"),
            Self::GetPeerName4 | Self::GetPeerName6 => None,
        }
    }

    /// Whether a kernel that refuses the program can do without: nothing leaves unseen, but some programs may notice
    /// (a resolver that checks who answers), or a job that runs as root may take the agent's ports while that is away.
    pub fn is_optional(self) -> bool {
        matches!(self, Self::RecvMsg4 | Self::RecvMsg6 | Self::Bind4 | Self::Bind6)
    }

    /// What it closes, for `sluice status`.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Established => "tells taken connections apart",
            Self::GetPeerName4 | Self::GetPeerName6 => "shows the address that was dialled",
            Self::RecvMsg4 | Self::RecvMsg6 => "shows the name server that was asked",
            Self::Create => "lets TCP and UDP sockets only be made",
            Self::Options => "refuses source routes, devices, marks and foreign addresses",
            Self::Bind4 | Self::Bind6 => "keeps the agent's ports free",
            Self::Inward => "refuses connections from other hosts",
            Self::Outward => "stops every packet that no other hook has accounted for",
            Self::SendMsg4 | Self::SendMsg6 => "leads DNS to the resolver and refuses other datagrams",
            Self::Connect4 | Self::Connect6 => "takes connections",
        }
    }
}

/// One layer of the enforcement, as this kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name: the hook's, without numbers for address families where they share a fate.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Whether it is there.
    pub state: LayerState,
}

impl From<&Layer> for crate::types::Layer {
    fn from(layer: &Layer) -> Self {
        match &layer.state {
            LayerState::Loaded => Self::active(layer.name, layer.purpose),
            LayerState::Absent(why) => Self::absent(layer.name, layer.purpose, why),
        }
    }
}

/// Whether a layer is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// In force for every tag.
    Loaded,
    /// Not there, and why.
    Absent(String),
}
