//! Calls over D-Bus, as much of its protocol as podctl needs: no name is owned, no signal is heard, nothing but numbers and
//! texts is said. The words are those of <https://dbus.freedesktop.org/doc/dbus-specification.html>.

use std::{
    io::{Error, ErrorKind, Read, Result, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use podctl_runtime::repeat_interrupted;

/// The time for which the other side may take to answer; a laptop under load answers in a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest message, in bytes, that is read; answers have some tens, signals of others some thousands.
const LONGEST: usize = 1 << 20;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
/// The field of a header that says which call is answered.
const REPLY_SERIAL: u8 = 5;

/// The method of an object.
#[derive(Clone, Copy, Debug)]
pub struct Method<'a> {
    /// The service's name, such as `org.freedesktop.systemd1`.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// Tells which of its interfaces.
    pub interface: &'a str,
    /// Tells which of that one's methods.
    pub member: &'a str,
}

/// Values in D-Bus' order and alignment, little end first. The caller writes the signature that says what they are.
#[derive(Debug, Default)]
pub struct Values(Vec<u8>);

impl Values {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    /// Adds a byte (`y`).
    pub fn put_byte(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Adds a number of 32 bits (`u`, `i`, `b`).
    pub fn put_u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    /// Adds a number of 64 bits (`t`).
    pub fn put_u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    /// Adds a text (`s`, `o`).
    pub fn put_text(&mut self, value: &str) {
        self.put_u32(value.len() as u32);
        self.0.extend(value.as_bytes());
        self.0.push(0);
    }

    /// Adds a signature (`g`), which has fewer than 256 letters.
    pub fn put_signature(&mut self, value: &str) {
        self.0.push(value.len() as u8);
        self.0.extend(value.as_bytes());
        self.0.push(0);
    }

    /// Begins a struct.
    pub fn begin_struct(&mut self) {
        self.align(8);
    }

    /// Adds an array whose elements begin at multiples of `alignment` bytes.
    pub fn put_array(&mut self, alignment: usize, elements: impl FnOnce(&mut Values)) {
        self.put_u32(0);
        let length_at = self.0.len() - 4;
        // What lies between the length and the first element does not count.
        self.align(alignment);
        let begin = self.0.len();
        elements(self);
        let length = (self.0.len() - begin) as u32;
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// The connection to a bus, or to a service's own socket.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    /// Holds what was read and not looked at yet.
    read: Vec<u8>,
    /// The number of the last call.
    serial: u32,
    /// The other side's assent to who this is was heard.
    welcome: bool,
}

impl Connection {
    /// Connects to the socket and says who this is. With `is_bus` there is somebody in between who first has to be
    /// greeted.
    ///
    /// # Errors
    /// Those of connect(2) and write(2).
    pub fn open(path: &Path, is_bus: bool) -> Result<Connection> {
        let mut socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // The kernel says who this is; the words only have to say the same.
        let user = nix::unistd::geteuid().to_string();
        let hex: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
        socket.write_all(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let mut connection = Connection { socket, read: Vec::new(), serial: 0, welcome: false };
        if is_bus {
            let bus = "org.freedesktop.DBus";
            let hello =
                Method { destination: bus, path: "/org/freedesktop/DBus", interface: bus, member: "Hello" };
            connection.send(&hello, "", &Values::default())?;
        }
        Ok(connection)
    }

    /// Calls a method with values of that signature; gives the call's number, by which its answer is known.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn send(&mut self, method: &Method<'_>, signature: &str, values: &Values) -> Result<u32> {
        self.serial += 1;
        let mut message = Values::default();
        message.0.extend([b'l', METHOD_CALL, 0, 1]);
        message.put_u32(values.0.len() as u32);
        message.put_u32(self.serial);
        message.put_array(8, |fields| {
            let of_text = [
                (1, "o", method.path),
                (2, "s", method.interface),
                (3, "s", method.member),
                (6, "s", method.destination),
            ];
            for (code, kind, text) in of_text {
                fields.begin_struct();
                fields.put_byte(code);
                fields.put_signature(kind);
                fields.put_text(text);
            }
            if !signature.is_empty() {
                fields.begin_struct();
                fields.put_byte(8);
                fields.put_signature("g");
                fields.put_signature(signature);
            }
        });
        message.align(8);
        message.0.extend(&values.0);
        self.socket.write_all(&message.0)?;
        Ok(self.serial)
    }

    /// Waits for the answer to the call of that number; gives its values. All else that is said is passed over.
    ///
    /// # Errors
    /// The other side's refusal in its words, what is no D-Bus, and no answer in time.
    pub fn receive(&mut self, serial: u32) -> Result<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        if !self.welcome {
            let line = self.read_line(deadline)?;
            if !line.starts_with(b"OK") {
                return Err(Error::new(ErrorKind::PermissionDenied, "this user is not let in"));
            }
            self.welcome = true;
        }
        loop {
            let message = self.read_message(deadline)?;
            if message.reply_to != Some(serial) {
                continue;
            }
            return match message.kind {
                METHOD_RETURN => Ok(message.body),
                ERROR => Err(Error::other(read_text(&message.body).unwrap_or_else(|| "refused".to_owned()))),
                _ => continue,
            };
        }
    }

    /// Reads until so many bytes are there.
    fn fill(&mut self, wanted: usize, deadline: Instant) -> Result<()> {
        let mut buffer = [0; 4096];
        while self.read.len() < wanted {
            if Instant::now() > deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            match repeat_interrupted(|| self.socket.read(&mut buffer))? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => self.read.extend(&buffer[..read]),
            }
        }
        Ok(())
    }

    fn read_line(&mut self, deadline: Instant) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                return Ok(self.read.drain(..=end).collect());
            }
            if self.read.len() > LONGEST {
                return Err(ErrorKind::InvalidData.into());
            }
            self.fill(self.read.len() + 1, deadline)?;
        }
    }

    fn read_message(&mut self, deadline: Instant) -> Result<Message> {
        const FIXED: usize = 16;
        self.fill(FIXED, deadline)?;
        let number = |at: usize| u32::from_le_bytes(self.read[at..at + 4].try_into().expect("four")) as usize;
        let (body, fields) = (number(4), number(12));
        if self.read[0] != b'l' || body > LONGEST || fields > LONGEST {
            return Err(ErrorKind::InvalidData.into());
        }
        let begin = (FIXED + fields).next_multiple_of(8);
        self.fill(begin + body, deadline)?;
        let message: Vec<u8> = self.read.drain(..begin + body).collect();
        Ok(Message {
            kind: message[1],
            reply_to: find_reply_serial(&message[..FIXED + fields]),
            body: message[begin..].to_vec(),
        })
    }
}

/// The message that was heard.
struct Message {
    kind: u8,
    /// The number of the call that it answers.
    reply_to: Option<u32>,
    body: Vec<u8>,
}

/// Finds which call is answered in a header's fields, which begin at byte 16.
fn find_reply_serial(header: &[u8]) -> Option<u32> {
    let mut at = 16;
    while at < header.len() {
        at = at.next_multiple_of(8);
        let code = *header.get(at)?;
        let kind = *header.get(at + 2)?;
        // A code, a signature of one letter, a value.
        let value = (at + 4).next_multiple_of(4);
        match kind {
            b'g' => at += 4 + usize::from(*header.get(at + 4)?) + 2,
            _ => {
                let number = u32::from_le_bytes(header.get(value..value + 4)?.try_into().ok()?);
                match (kind, code) {
                    (b'u', REPLY_SERIAL) => return Some(number),
                    (b'u', _) => at = value + 4,
                    (b's' | b'o', _) => at = value + 4 + number as usize + 1,
                    _ => return None,
                }
            }
        }
    }
    None
}

/// Reads the text that values begin with.
pub fn read_text(values: &[u8]) -> Option<String> {
    let length = u32::from_le_bytes(values.get(..4)?.try_into().ok()?) as usize;
    Some(String::from_utf8_lossy(values.get(4..4 + length)?).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    #[test]
    fn values_are_aligned_as_the_specification_says() {
        let mut values = Values::default();
        values.put_text("ab");
        values.put_array(8, |all| {
            all.begin_struct();
            all.put_text("c");
            all.put_signature("t");
            all.put_u64(7);
        });
        let expected = [
            &[2, 0, 0, 0, b'a', b'b', 0, 0][..],
            &[24, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, b'c', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0],
            &[7, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(values.0, expected.concat());
        let mut none = Values::default();
        none.put_array(8, |_| {});
        assert_eq!(none.0, [0; 8]);
    }

    /// Returns an answer of that kind to the call of that number, after fields of other kinds.
    fn answer(kind: u8, serial: u32, text: &str) -> Vec<u8> {
        let mut body = Values::default();
        body.put_text(text);
        let mut message = Values::default();
        message.0.extend([b'l', kind, 0, 1]);
        message.put_u32(body.0.len() as u32);
        message.put_u32(9);
        message.put_array(8, |fields| {
            fields.put_byte(8);
            fields.put_signature("g");
            fields.put_signature("s");
            fields.begin_struct();
            fields.put_byte(7);
            fields.put_signature("s");
            fields.put_text(":1.5");
            fields.begin_struct();
            fields.put_byte(REPLY_SERIAL);
            fields.put_signature("u");
            fields.put_u32(serial);
        });
        message.align(8);
        message.0.extend(body.0);
        message.0
    }

    #[test]
    fn an_answer_is_heard_among_signals_and_a_refusal_in_its_own_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let served = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let said = [&b"OK 1234\r\n"[..], &answer(4, 1, "a signal"), &answer(METHOD_RETURN, 1, "yes")];
            socket.write_all(&said.concat()).unwrap();
            socket.write_all(&answer(ERROR, 2, "no such unit")).unwrap();
            let mut heard = Vec::new();
            socket.read_to_end(&mut heard).unwrap();
            heard
        });
        let mut connection = Connection::open(&path, false).unwrap();
        let method = Method { destination: "a.b", path: "/a", interface: "a.c", member: "Do" };
        let first = connection.send(&method, "", &Values::default()).unwrap();
        assert_eq!(read_text(&connection.receive(first).unwrap()).as_deref(), Some("yes"));
        let second = connection.send(&method, "", &Values::default()).unwrap();
        assert_eq!(connection.receive(second).unwrap_err().to_string(), "no such unit");
        drop(connection);
        let heard = served.join().unwrap();
        assert!(heard.starts_with(b"\0AUTH EXTERNAL ") && heard.windows(3).any(|w| w == b"a.c"), "{heard:?}");
    }
}
