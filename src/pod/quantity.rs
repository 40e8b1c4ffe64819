//! Kubernetes quantities: `500m`, `1.5`, `64Mi`, `1e3`; read, and written as an API server writes them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{EnvVar, PodSpec, ResourceFieldSelector, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

/// The largest amount that a quantity with a binary suffix has; what is more is cut to it.
const LARGEST_BINARY: u128 = i64::MAX as u128;

/// The exponent of the finest amount there is: what is less is rounded up.
const FINEST: i32 = -9;

/// What is wrong with a text that is no quantity.
const WRONG: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', such as 500m, 64Mi or 1.5G";

/// What is wrong with an amount below zero.
const NEGATIVE: &str = "must be greater than or equal to 0";

/// Suffixes of powers of ten, by the exponent.
const DECIMAL_SUFFIXES: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// Suffixes of powers of 1024, from the first on.
const BINARY_SUFFIXES: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The way in which a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Has a suffix, such as `k`, or none.
    Decimal,
    /// Has an exponent, such as `e3`.
    Exponent,
    /// Has a suffix such as `Ki`.
    Binary,
}

/// The quantity as it is written: digits before and after the point, and what the suffix says.
struct Written<'a> {
    negative: bool,
    /// Digits before the point without leading zeros; `0` where there is none.
    whole: &'a str,
    fraction: &'a str,
    format: Format,
    /// The power of ten, or of two where the format is binary.
    exponent: i32,
}

/// The amount that a quantity says: `mantissa` times ten to the power of `exponent`, which is not below [`FINEST`].
struct Amount {
    negative: bool,
    mantissa: u128,
    exponent: i32,
    format: Format,
}

/// Reads a quantity of bytes, rounded up.
///
/// # Errors
/// What is wrong with the text.
pub fn quantity_bytes(text: &str) -> Result<u64, String> {
    read_amount(text)?.scaled_by(0)
}

/// Reads a quantity in thousandths, as of a CPU, rounded up.
///
/// # Errors
/// What is wrong with the text.
pub fn quantity_millis(text: &str) -> Result<u64, String> {
    read_amount(text)?.scaled_by(3)
}

/// Returns a quantity as an API server writes it: without a fraction, and with the largest suffix of its kind that needs
/// none. What is no quantity is returned as it is, and so is what the server leaves so, though it has a fraction of three
/// digits: `1.234`.
pub fn canonical_quantity(text: &str) -> String {
    let text = text.trim();
    let Some(written) = split_quantity(text) else { return text.to_owned() };
    if is_left_as_written(&written) {
        return text.to_owned();
    }
    written.amount().map_or_else(|| text.to_owned(), |amount| amount.canonical_text())
}

/// Writes every quantity of a pod's spec as an API server does.
pub fn canonicalize_quantities(spec: &mut PodSpec) {
    let mut resources: Vec<&mut ResourceRequirements> = spec.resources.iter_mut().collect();
    let mut divisors: Vec<&mut ResourceFieldSelector> = Vec::new();
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        resources.extend(&mut container.resources);
        divisors.extend(container.env.iter_mut().flatten().filter_map(resource_field));
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        resources.extend(&mut container.resources);
        divisors.extend(container.env.iter_mut().flatten().filter_map(resource_field));
    }
    let mut items = Vec::new();
    for volume in spec.volumes.iter_mut().flatten() {
        volume.empty_dir.iter_mut().filter_map(|v| v.size_limit.as_mut()).for_each(canonicalize);
        let template = volume.ephemeral.as_mut().and_then(|v| v.volume_claim_template.as_mut());
        if let Some(resources) = template.and_then(|t| t.spec.resources.as_mut()) {
            canonicalize_all([&mut resources.limits, &mut resources.requests]);
        }
        items.extend(volume.downward_api.iter_mut().flat_map(|v| v.items.iter_mut().flatten()));
        let sources = volume.projected.iter_mut().flat_map(|v| v.sources.iter_mut().flatten());
        items.extend(
            sources.filter_map(|s| s.downward_api.as_mut()).flat_map(|v| v.items.iter_mut().flatten()),
        );
    }
    divisors.extend(items.into_iter().filter_map(|item| item.resource_field_ref.as_mut()));
    divisors.into_iter().filter_map(|field| field.divisor.as_mut()).for_each(canonicalize);
    resources.into_iter().for_each(|r| canonicalize_all([&mut r.limits, &mut r.requests]));
    canonicalize_all([&mut spec.overhead]);
}

/// Writes the amounts of resources as an API server does.
pub fn canonicalize_all<const N: usize>(lists: [&mut Option<BTreeMap<String, Quantity>>; N]) {
    lists.into_iter().flatten().flat_map(BTreeMap::values_mut).for_each(canonicalize);
}

fn canonicalize(quantity: &mut Quantity) {
    quantity.0 = canonical_quantity(&quantity.0);
}

fn resource_field(variable: &mut EnvVar) -> Option<&mut ResourceFieldSelector> {
    variable.value_from.as_mut()?.resource_field_ref.as_mut()
}

fn read_amount(text: &str) -> Result<Amount, String> {
    split_quantity(text.trim()).and_then(|written| written.amount()).ok_or_else(|| WRONG.to_owned())
}

/// Returns nothing where the text is no quantity.
fn split_quantity(text: &str) -> Option<Written<'_>> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let decimal = DECIMAL_SUFFIXES.iter().find(|(known, _)| *known == suffix);
    let binary = BINARY_SUFFIXES.iter().position(|known| *known == suffix);
    let (format, exponent) = match (decimal, binary) {
        (Some((_, exponent)), _) => (Format::Decimal, *exponent),
        (_, Some(at)) => (Format::Binary, (at as i32 + 1) * 10),
        _ => {
            let exponent: i16 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (Format::Exponent, exponent.into())
        }
    };
    let whole = Some(whole.trim_start_matches('0')).filter(|w| !w.is_empty()).unwrap_or("0");
    Some(Written { negative, whole, fraction, format, exponent })
}

/// Tells whether an API server writes a quantity as it was written: a short number with nothing to be moved into its
/// suffix, which it recognizes by the last digits alone.
fn is_left_as_written(written: &Written<'_>) -> bool {
    let digits = format!("{}{}", written.whole, written.fraction);
    let length = digits.len() as i32;
    match written.format {
        Format::Binary => {
            // As many digits as a power of two takes of the fifteen that it counts with.
            let taken = written.exponent * 3 / 10;
            let is_short = written.fraction.is_empty() && 14 - length - taken >= 0;
            is_short && digits.parse::<u64>().is_ok_and(|value| value % 8 != 0)
        }
        Format::Decimal | Format::Exponent => {
            let exponent = written.exponent - written.fraction.len() as i32;
            let is_short = length <= 18 && exponent >= FINEST;
            is_short && exponent % 3 == 0 && !digits.ends_with("000") && !digits.starts_with('0')
        }
    }
}

impl Written<'_> {
    /// Returns nothing where there are more digits than can be counted with.
    fn amount(&self) -> Option<Amount> {
        let digits: u128 = format!("{}{}", self.whole, self.fraction).parse().ok()?;
        let decimals = self.fraction.len() as i32;
        let (mantissa, exponent) = match self.format {
            Format::Binary => (digits.checked_mul(1 << self.exponent), -decimals),
            Format::Decimal | Format::Exponent => (Some(digits), self.exponent - decimals),
        };
        let mantissa = match mantissa {
            Some(mantissa) => mantissa,
            None if decimals == 0 => LARGEST_BINARY,
            None => return None,
        };
        let mut amount = Amount { negative: self.negative, mantissa, exponent, format: self.format };
        if amount.exponent < FINEST {
            let divisor = power_of_ten(FINEST - amount.exponent);
            let rounded = divisor.map_or(mantissa.min(1), |divisor| mantissa.div_ceil(divisor));
            (amount.mantissa, amount.exponent) = (rounded, FINEST);
        }
        if amount.format == Format::Binary {
            if amount.magnitude(0) > LARGEST_BINARY {
                (amount.mantissa, amount.exponent) = (LARGEST_BINARY, 0);
            } else if amount.magnitude(0) < 1024 || !amount.is_whole() {
                amount.format = Format::Decimal;
            }
        }
        Some(amount)
    }
}

impl Amount {
    /// Returns the amount times ten to that power, rounded up and without its sign; what is too large is as large as
    /// can be.
    fn magnitude(&self, power: i32) -> u128 {
        let exponent = self.exponent + power;
        match (exponent, power_of_ten(exponent.abs())) {
            _ if self.mantissa == 0 => 0,
            (0.., Some(factor)) => self.mantissa.saturating_mul(factor),
            (0.., None) => u128::MAX,
            (_, Some(divisor)) => self.mantissa.div_ceil(divisor),
            (_, None) => 1,
        }
    }

    /// Returns the amount times ten to that power, rounded up, at most what an `i64` holds.
    fn scaled_by(&self, power: i32) -> Result<u64, String> {
        if self.negative && self.mantissa > 0 {
            return Err(NEGATIVE.to_owned());
        }
        Ok(self.magnitude(power).min(i64::MAX as u128) as u64)
    }

    fn is_whole(&self) -> bool {
        self.exponent >= 0
            || power_of_ten(-self.exponent).is_some_and(|divisor| self.mantissa.is_multiple_of(divisor))
    }

    fn canonical_text(&self) -> String {
        if self.mantissa == 0 {
            return "0".to_owned();
        }
        let sign = if self.negative { "-" } else { "" };
        if self.format == Format::Binary {
            let (mut value, mut suffix) = (self.magnitude(0), "");
            let mut larger = BINARY_SUFFIXES.into_iter();
            while value.is_multiple_of(1024)
                && let Some(next) = larger.next()
            {
                (value, suffix) = (value / 1024, next);
            }
            return format!("{sign}{value}{suffix}");
        }
        let (mut mantissa, mut exponent) = (self.mantissa, self.exponent);
        while mantissa.is_multiple_of(10) {
            (mantissa, exponent) = (mantissa / 10, exponent + 1);
        }
        let down = exponent.rem_euclid(3);
        let zeros = "0".repeat(down as usize);
        exponent -= down;
        let known = DECIMAL_SUFFIXES.iter().find(|(_, known)| *known == exponent);
        match (self.format, known) {
            (_, Some(("", _))) => format!("{sign}{mantissa}{zeros}"),
            (Format::Decimal, Some((suffix, _))) => format!("{sign}{mantissa}{zeros}{suffix}"),
            _ => format!("{sign}{mantissa}{zeros}e{exponent}"),
        }
    }
}

/// Returns nothing where it is too large.
fn power_of_ten(exponent: i32) -> Option<u128> {
    10u128.checked_pow(u32::try_from(exponent).ok()?)
}

/// Returns bytes as Kubernetes prints them, such as `3Mi`.
pub fn quantity_text(bytes: u64) -> String {
    let mut units = BINARY_SUFFIXES.into_iter();
    let (mut value, mut unit) = (bytes, "");
    while value > 0
        && value.is_multiple_of(1024)
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1024, next);
    }
    format!("{value}{unit}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, milli) in
            [("500m", 500), ("1", 1000), ("1.5", 1500), ("0.1m", 1), ("1e3", 1_000_000), ("2k", 2_000_000)]
        {
            assert_eq!(quantity_millis(text).unwrap(), milli, "{text}");
        }
        assert_eq!(quantity_bytes("64Mi").unwrap(), 64 << 20);
        for text in ["", "x", "1MB", "1..2", "--1", ".", "1ki", "1e", "1_0", "1e1.5"] {
            assert!(quantity_bytes(text).is_err(), "{text}");
        }
        assert_eq!(quantity_bytes("0.0000000000000000000001"), Ok(1));
        assert_eq!(quantity_bytes("1e99"), Ok(i64::MAX as u64));
        assert!(quantity_bytes("-1").unwrap_err().contains("greater than or equal to 0"));
    }

    #[test]
    fn quantities_are_written_as_an_api_server_writes_them() {
        // What kubectl makes of each, which reads them into the same type.
        let known = [
            ("0", "0"),
            ("0Ki", "0"),
            ("0m", "0"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1.5", "1500m"),
            ("1.500", "1.500"),
            ("1.234", "1.234"),
            ("+5", "+5"),
            ("-5", "-5"),
            ("0.500", "500m"),
            ("01", "01"),
            ("1e3", "1e3"),
            ("1E3", "1E3"),
            ("1E", "1E"),
            ("1e0", "1e0"),
            ("1e-3", "1e-3"),
            ("1e4", "10e3"),
            ("1.2e3", "1200"),
            ("0.5Ki", "512"),
            ("1023Ki", "1023Ki"),
            ("1024Ki", "1Mi"),
            ("100.035Ki", "102435840m"),
            ("0.1Ki", "102400m"),
            ("0.0001Ki", "102400u"),
            ("1.1n", "2n"),
            ("0.9n", "1n"),
            ("8Ei", "9223372036854775807"),
            ("9223372036854775807Ki", "9223372036854775807"),
            ("9223372036854775808", "9223372036854775808"),
            ("12E", "12E"),
            ("1e21", "1e21"),
            ("0.0000000001", "1n"),
            ("1500Mi", "1500Mi"),
            ("8Mi", "8Mi"),
            ("512Ki", "512Ki"),
            ("1.", "1."),
            (".5", "500m"),
            ("1.G", "1.G"),
            ("1000000", "1M"),
            ("1000k", "1M"),
            ("100000m", "100"),
            ("1234567890123456789012", "1234567890123456789012"),
            ("-1.5Gi", "-1536Mi"),
            ("-0.1m", "-100u"),
            ("-1.1n", "-2n"),
            ("0.9Ki", "921600m"),
            ("-1Ki", "-1Ki"),
            ("1.5Ki", "1536"),
            ("1e99", "1e99"),
            ("2048", "2048"),
            ("64M", "64M"),
            ("3000Mi", "3000Mi"),
            ("0.25Gi", "256Mi"),
            ("1e+3", "1e+3"),
            ("1e100", "10e99"),
            ("1234.5678e3", "1234567800e-3"),
            ("20000n", "20u"),
            ("00.5", "500m"),
            ("1.50Gi", "1536Mi"),
            ("1.0", "1"),
            ("1.0Gi", "1Gi"),
            ("10", "10"),
            ("100k", "100k"),
            ("0.010", "10m"),
            ("1.000", "1"),
            ("12.3450", "12345m"),
            ("7Pi", "7Pi"),
            ("1024Pi", "1Ei"),
            ("+5Pi", "5Pi"),
            ("0.0001Ei", "115292150460684697600u"),
            ("1.000000000001Gi", "1073741824001073742n"),
            ("99999999999999Ki", "99999999999999Ki"),
            ("5e-10", "1e-9"),
            ("1000000000000000000000000E-9", "1e15"),
        ];
        for (text, canonical) in known {
            assert_eq!(canonical_quantity(text), canonical, "{text}");
            assert_eq!(canonical_quantity(canonical), canonical, "{text}, once more");
            assert_eq!(quantity_millis(text).ok(), quantity_millis(canonical).ok(), "{text}");
        }
        // There is no suffix for it; some versions say 1 then.
        assert_eq!(canonical_quantity("1000E"), "1e21");
        for text in ["", "x", "1ki", "--1"] {
            assert_eq!(canonical_quantity(text), text);
        }
    }

    #[test]
    fn every_quantity_of_a_pod_is_written_so() {
        let resources = |text: &str| json!({"requests": {"cpu": text}, "limits": {"cpu": text}});
        let field = |text: &str| json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": text}});
        let container = |text: &str| json!({"name": "c", "resources": resources(text), "env": [{"name": "A", "valueFrom": field(text)}]});
        let items = |text: &str| json!({"items": [{"path": "p", "resourceFieldRef": {"resource": "limits.cpu", "divisor": text}}]});
        let claim = |text: &str| json!({"spec": {"resources": {"requests": {"storage": text}}}});
        let spec = |text: &str| {
            let mut ephemeral = container(text);
            ephemeral["image"] = json!("i");
            serde_json::from_value::<PodSpec>(json!({
                "containers": [container(text)], "initContainers": [container(text)], "ephemeralContainers": [ephemeral],
                "resources": resources(text), "overhead": {"cpu": text},
                "volumes": [{"name": "e", "emptyDir": {"sizeLimit": text}}, {"name": "d", "downwardAPI": items(text)},
                    {"name": "p", "projected": {"sources": [{"downwardAPI": items(text)}]}},
                    {"name": "c", "ephemeral": {"volumeClaimTemplate": claim(text)}}]}))
            .unwrap()
        };
        let mut written = spec("1000m");
        canonicalize_quantities(&mut written);
        assert_eq!(serde_json::to_value(written).unwrap(), serde_json::to_value(spec("1")).unwrap());
    }
}
