//! Kubernetes quantities: `500m`, `1.5`, `64Mi`, `1e3`.

/// A quantity of bytes, rounded up.
///
/// # Errors
/// What is wrong with the text.
pub fn quantity_bytes(text: &str) -> Result<u64, String> {
    let milli = parse(text)?;
    u64::try_from((milli + 999).div_euclid(1000)).map_err(|_| "must be greater than or equal to 0".into())
}

/// A quantity in thousandths, as of a CPU, rounded up.
///
/// # Errors
/// What is wrong with the text.
pub fn quantity_millis(text: &str) -> Result<u64, String> {
    u64::try_from(parse(text)?).map_err(|_| "must be greater than or equal to 0".into())
}

/// In thousandths, rounded up.
fn parse(text: &str) -> Result<i128, String> {
    let wrong = || {
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', such as 500m, 64Mi or 1.5G"
            .to_owned()
    };
    let end = text.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |t: &str| t.len() <= 18 && t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !plain(whole) || !plain(fraction) {
        return Err(wrong());
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    let decimals = fraction.len() as u32;
    // As a fraction: factor over divisor.
    let (factor, divisor): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (10i128.pow(12), 1),
        "P" => (10i128.pow(15), 1),
        "E" => (10i128.pow(18), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 =
                exponent.strip_prefix(['e', 'E']).and_then(|e| e.parse().ok()).ok_or_else(wrong)?;
            match power {
                0..=18 => (10i128.pow(power as u32), 1),
                -18..0 => (1, 10i128.pow(power.unsigned_abs())),
                _ => return Err(wrong()),
            }
        }
    };
    let scaled = mantissa.checked_mul(factor).and_then(|v| v.checked_mul(1000)).ok_or_else(wrong)?;
    let divisor = divisor * 10i128.pow(decimals);
    Ok(sign * ((scaled + divisor - 1) / divisor))
}

/// Bytes as Kubernetes prints them, such as `3Mi`.
pub fn quantity_text(bytes: u64) -> String {
    let mut units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter();
    let (mut value, mut unit) = (bytes, units.next().unwrap_or_default());
    while value > 0
        && value % 1024 == 0
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1024, next);
    }
    format!("{value}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, milli) in
            [("500m", 500), ("1", 1000), ("1.5", 1500), ("0.1m", 1), ("1e3", 1_000_000), ("2k", 2_000_000)]
        {
            assert_eq!(quantity_millis(text).unwrap(), milli, "{text}");
        }
        assert_eq!(quantity_bytes("64Mi").unwrap(), 64 << 20);
        for text in ["", "x", "1MB", "1..2", "--1", "1e99"] {
            assert!(quantity_bytes(text).is_err(), "{text}");
        }
        assert!(quantity_bytes("-1").unwrap_err().contains("greater than or equal to 0"));
    }
}
