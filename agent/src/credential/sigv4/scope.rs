//! For which region and service a request is, as the name of its host says, and what differs between services.

/// Whether a text can be a region or a service in a scope.
pub(super) fn is_part(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

/// Services that take a path as it is sent, and have the hash of the body in a field.
pub(super) fn is_s3(service: &str) -> bool {
    matches!(service, "s3" | "s3express" | "s3-object-lambda" | "s3-outposts")
}

/// Where an endpoint's name is not its service's in a signature.
const SIGNED_AS: [(&str, &str); 6] = [
    ("bedrock-runtime", "bedrock"),
    ("bedrock-agent-runtime", "bedrock"),
    ("email", "ses"),
    ("monitoring", "monitoring"),
    ("runtime.sagemaker", "sagemaker"),
    ("streams.dynamodb", "dynamodb"),
];

/// Service and region out of a name of AWS's: `[bucket.]SERVICE[.dualstack].REGION.amazonaws.com`. Services without a region
/// are in `us-east-1`.
pub(super) fn of(host: &str) -> Option<(String, String)> {
    let name = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let below =
        [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"].iter().find_map(|end| name.strip_suffix(end))?;
    let mut labels: Vec<&str> = below.split('.').filter(|label| *label != "dualstack").collect();
    let is_region = |label: &str| {
        let mut parts = label.split('-');
        parts.next().is_some_and(|first| first.len() == 2 && first.bytes().all(|b| b.is_ascii_lowercase()))
            && label.split('-').count() >= 3
            && label.rsplit('-').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
    };
    let region = match labels.last() {
        Some(last) if is_region(last) => labels.pop().map(str::to_owned),
        _ => None,
    };
    let last = labels.pop()?;
    // The older names of S3: s3-eu-west-1.amazonaws.com
    if let Some(old) = last.strip_prefix("s3-").filter(|old| is_region(old)) {
        return Some(("s3".to_owned(), old.to_owned()));
    }
    let two = labels.last().map(|before| format!("{before}.{last}"));
    let known =
        |name: &str| SIGNED_AS.iter().find(|(endpoint, _)| *endpoint == name).map(|(_, service)| *service);
    let service = two.as_deref().and_then(known).or_else(|| known(last)).unwrap_or(last);
    Some((service.to_owned(), region.unwrap_or_else(|| "us-east-1".to_owned())))
}

/// A path with each byte encoded that S3 encodes, and once: what S3 makes of the key that it reads out of the path.
pub(super) fn encoded_once(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, more)) = rest.split_first() {
        let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
        let (byte, more) = match (byte, hex(more.first()), hex(more.get(1))) {
            (b'%', Some(high), Some(low)) => (u8::try_from(high * 16 + low).unwrap_or(b'%'), &more[2..]),
            _ => (*byte, more),
        };
        // A slash that was encoded is one in the key's name, which S3 cannot tell apart.
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        rest = more;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts() {
        for (host, wanted) in [
            ("s3.eu-west-1.amazonaws.com", Some(("s3", "eu-west-1"))),
            ("my.bucket.s3.eu-west-1.amazonaws.com:443", Some(("s3", "eu-west-1"))),
            ("b.s3.dualstack.us-gov-west-1.amazonaws.com", Some(("s3", "us-gov-west-1"))),
            ("b.s3.amazonaws.com", Some(("s3", "us-east-1"))),
            ("b.s3-ap-southeast-2.amazonaws.com", Some(("s3", "ap-southeast-2"))),
            ("dynamodb.cn-north-1.amazonaws.com.cn", Some(("dynamodb", "cn-north-1"))),
            ("iam.amazonaws.com", Some(("iam", "us-east-1"))),
            ("bedrock-runtime.us-east-1.amazonaws.com", Some(("bedrock", "us-east-1"))),
            ("runtime.sagemaker.us-east-1.amazonaws.com", Some(("sagemaker", "us-east-1"))),
            ("x.execute-api.us-east-1.amazonaws.com", Some(("execute-api", "us-east-1"))),
            ("minio.example", None),
            ("s3.eu-west-1.amazonaws.com.evil.example", None),
        ] {
            let found = of(host);
            assert_eq!(found.as_ref().map(|(s, r)| (s.as_str(), r.as_str())), wanted, "{host}");
        }
    }

    #[test]
    fn a_path_is_encoded_once() {
        for (path, wanted) in [
            ("/", "/"),
            ("/b/a b".replace(' ', "%20").as_str(), "/b/a%20b"),
            ("/b/%61!'()*~", "/b/a%21%27%28%29%2A~"),
            ("/b/../c//d", "/b/../c//d"),
            ("/b/100%", "/b/100%25"),
            ("/b/%c3%a4", "/b/%C3%A4"),
            ("/b/a%2Fb", "/b/a/b"),
            ("/b/a%2bb+c", "/b/a%2Bb%2Bc"),
        ] {
            assert_eq!(encoded_once(path), wanted, "{path}");
        }
    }
}
