//! Fields of JSON by their paths: those whose value goes as a whole, and those whose text goes on from event to event.
//!
//! A path is names between dots, with `[*]` or `[0]` behind those that are lists: `email`, `*.password`, `messages[*].content`.
//! `*` is any name or place. It may begin anywhere: `email` is every field of that name, in any letter case. One that begins with `$.`
//! begins at the root.

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The value goes as a whole; the number of its field.
    Field(usize),
    /// The text goes on; the number of its path.
    Join(u64),
}

/// A path that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Something else stands where a name should.
    #[error("a path is names between dots, with [*] or [0] behind lists, as messages[*].content")]
    Path,
    /// More than the table has bits for.
    #[error("paths of more than 254 names in all")]
    Many,
}

/// A set of steps of paths: a bit each.
pub type Steps = [u64; 4];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(Box<[u8]>),
    Place(u32),
    AnyPlace,
    Any,
}

/// Paths, made ready.
#[derive(Default, Debug)]
pub struct Paths {
    steps: Vec<Step>,
    /// By step: what it is the last of a path for.
    lasts: Vec<Option<Action>>,
    /// Steps that may come at any depth, and those at the root.
    anywhere: Steps,
    root: Steps,
    /// Those that any name or place fits.
    any: Steps,
    any_place: Steps,
    last: Steps,
    /// Names, and their steps.
    names: Vec<(Box<[u8]>, Steps)>,
    /// A bit for each length of a name up to 63.
    lengths: u64,
}

fn set(steps: &mut Steps, at: usize) {
    steps[at / 64] |= 1 << (at % 64);
}

fn and(one: Steps, other: Steps) -> Steps {
    std::array::from_fn(|at| one[at] & other[at])
}

fn or(one: Steps, other: Steps) -> Steps {
    std::array::from_fn(|at| one[at] | other[at])
}

impl Paths {
    /// Adds a path.
    ///
    /// # Errors
    /// [`PathError`]: it is none, or does not fit.
    pub fn add(&mut self, path: &str, action: Action) -> Result<(), PathError> {
        let (rooted, rest) = match path.strip_prefix("$") {
            Some(rest) if rest.starts_with(['.', '[']) => (true, rest.strip_prefix('.').unwrap_or(rest)),
            _ => (false, path),
        };
        let steps = parsed(rest)?;
        let first = self.steps.len();
        if steps.is_empty() || first + steps.len() > 254 {
            return Err(if steps.is_empty() { PathError::Path } else { PathError::Many });
        }
        set(if rooted { &mut self.root } else { &mut self.anywhere }, first);
        for step in steps {
            let at = self.steps.len();
            match &step {
                Step::Name(name) => self.name(name, at),
                Step::AnyPlace => set(&mut self.any_place, at),
                Step::Any => set(&mut self.any, at),
                Step::Place(_) => {}
            }
            self.steps.push(step);
            self.lasts.push(None);
        }
        let last = self.steps.len() - 1;
        self.lasts[last] = Some(action);
        set(&mut self.last, last);
        Ok(())
    }

    fn name(&mut self, name: &[u8], at: usize) {
        self.lengths |= 1 << name.len().min(63);
        match self.names.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, steps)) => set(steps, at),
            None => {
                let mut steps = Steps::default();
                set(&mut steps, at);
                self.names.push((name.into(), steps));
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What may come at the root.
    pub fn begin(&self) -> Steps {
        or(self.root, self.anywhere)
    }

    /// What a field of an object is for, and what may come in its value.
    pub fn name_of(&self, open: &Steps, name: &[u8]) -> (Option<Action>, Steps) {
        let mut fits = self.any;
        if self.lengths >> name.len().min(63) & 1 == 1
            && let Some((_, steps)) = self.names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            fits = or(fits, *steps);
        }
        self.met(and(*open, fits))
    }

    /// What a place of a list is for, and what may come there.
    pub fn place_of(&self, open: &Steps, place: u32) -> (Option<Action>, Steps) {
        let mut fits = or(self.any, self.any_place);
        for (at, step) in self.steps.iter().enumerate() {
            if *step == Step::Place(place) {
                set(&mut fits, at);
            }
        }
        self.met(and(*open, fits))
    }

    fn met(&self, met: Steps) -> (Option<Action>, Steps) {
        if met == Steps::default() {
            return (None, self.anywhere);
        }
        let ends = and(met, self.last);
        let first = (0..4).find(|at| ends[*at] != 0).map(|at| at * 64 + ends[at].trailing_zeros() as usize);
        let mut next = self.anywhere;
        let mut carry = 0;
        for at in 0..4 {
            let goes_on = met[at] & !self.last[at];
            next[at] |= goes_on << 1 | carry;
            carry = goes_on >> 63;
        }
        (first.and_then(|at| self.lasts[at]), next)
    }
}

fn parsed(path: &str) -> Result<Vec<Step>, PathError> {
    let mut steps = Vec::new();
    for (at, part) in path.split('.').enumerate() {
        let (name, mut places) = part.split_at(part.find('[').unwrap_or(part.len()));
        match name {
            "" if at > 0 || places.is_empty() => return Err(PathError::Path),
            "" => {}
            "*" => steps.push(Step::Any),
            name => steps.push(Step::Name(name.as_bytes().into())),
        }
        while let Some(rest) = places.strip_prefix('[') {
            let (place, behind) = rest.split_once(']').ok_or(PathError::Path)?;
            steps.push(match place {
                "*" => Step::AnyPlace,
                number => Step::Place(number.parse().map_err(|_| PathError::Path)?),
            });
            places = behind;
        }
        if !places.is_empty() {
            return Err(PathError::Path);
        }
    }
    Ok(steps)
}

/// The name that a path ends with: what its value is called. `None`, where it ends with a place or `*`.
pub fn last_name(path: &str) -> Option<&str> {
    let last = path.rsplit('.').next()?.split('[').next()?;
    (!last.is_empty() && last != "*" && last != "$").then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(paths: &Paths, names: &[&str]) -> Option<Action> {
        let (mut open, mut action) = (paths.begin(), None);
        for name in names {
            (action, open) = match name.parse() {
                Ok(place) => paths.place_of(&open, place),
                Err(_) => paths.name_of(&open, name.as_bytes()),
            };
        }
        action
    }

    #[test]
    fn paths_begin_anywhere_or_at_the_root() {
        let mut paths = Paths::default();
        for (at, path) in ["email", "*.password", "messages[*].content", "$.name", "a[1].*.b", "[0].first"]
            .iter()
            .enumerate()
        {
            paths.add(path, Action::Field(at)).expect(path);
        }
        let field = |names: &[&str]| match met(&paths, names) {
            Some(Action::Field(at)) => Some(at),
            _ => None,
        };
        assert_eq!(field(&["email"]), Some(0));
        assert_eq!(field(&["users", "3", "email"]), Some(0));
        assert_eq!(field(&["password"]), None);
        assert_eq!(field(&["user", "password"]), Some(1));
        assert_eq!(field(&["7", "password"]), Some(1));
        assert_eq!(field(&["messages", "12", "content"]), Some(2));
        assert_eq!(field(&["body", "messages", "0", "content"]), Some(2));
        assert_eq!(field(&["messages", "content"]), None);
        assert_eq!((field(&["name"]), field(&["user", "name"])), (Some(3), None));
        assert_eq!((field(&["a", "1", "x", "b"]), field(&["a", "0", "x", "b"])), (Some(4), None));
        assert_eq!((field(&["0", "first"]), field(&["1", "first"])), (Some(5), None));
    }

    #[test]
    fn what_is_no_path() {
        for path in ["", ".", "a.", "a..b", "a[", "a[x]", "a[1]b", "$"] {
            let mut paths = Paths::default();
            let is = paths.add(path, Action::Field(0));
            // A dollar alone is a name like others.
            assert_eq!(is.is_ok(), path == "$", "{path}");
        }
        assert_eq!(
            (last_name("a.*.password"), last_name("a[*]"), last_name("a.*")),
            (Some("password"), Some("a"), None)
        );
    }
}
