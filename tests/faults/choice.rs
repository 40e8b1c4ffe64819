//! Which places are tried: of each kind one at least, and as many others as are wanted, by a seed that repeats the choice.

use crate::injector::{Counts, Fault, Place, Point, list_faults, list_shortages, new_point};

/// Number of shortages of each kind and user, where nobody says how many.
const SHORTAGES: usize = 2;

/// Numbers that look random and are the same for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// The points that a life with these counts has.
pub fn list_points(counts: &Counts) -> Vec<Point> {
    let each = counts.iter().flat_map(|(place, count)| {
        (1..=*count).flat_map(move |nth| {
            list_faults(&place.2).into_iter().map(move |fault| new_point(place, nth, fault))
        })
    });
    each.filter(|point| point.stage != "whole").collect()
}

/// Each combination of stage, role, call and fault, with the number of its calls. What a start does beside fetching its image
/// it does in the stage without that, too.
fn list_kinds(counts: &Counts) -> Vec<(&Place, usize, Fault)> {
    let is_new = |(stage, role, call): &Place| {
        stage != "whole"
            && (stage != "fetch" || !counts.contains_key(&("start".to_owned(), role.clone(), call.clone())))
    };
    let places = counts.iter().filter(|(place, _)| is_new(place));
    places
        .flat_map(|(place, count)| list_faults(&place.2).into_iter().map(move |f| (place, *count, f)))
        .collect()
}

fn choose_shortages(counts: &Counts, of_each: usize, random: &mut Random) -> Vec<Point> {
    let whole = counts.iter().filter(|((stage, ..), _)| stage == "whole");
    let whole: Counts = whole.map(|(place, count)| (place.clone(), *count)).collect();
    let kinds = list_shortages(&whole);
    let each = kinds.iter().flat_map(|(point, places)| std::iter::repeat_n((point, *places), of_each));
    each.map(|(point, places)| Point { nth: 1 + random.below(places), ..point.clone() }).collect()
}

/// The points that `PODCTL_TEST_FAULTS` asks for, of each user whose calls were counted; where it says nothing, each kind is one
/// of these users'.
pub fn choose_points(counts: &[Counts], wanted: &str, random: &mut Random) -> Vec<Vec<Point>> {
    let is_sample = wanted.is_empty();
    let mut chosen: Vec<Vec<Point>> = Vec::new();
    for (own, of_user) in counts.iter().enumerate() {
        let mut points = Vec::new();
        if wanted == "all" {
            points = list_points(of_user);
        } else if let Some(of_each) = wanted.strip_prefix("lasting") {
            points = choose_shortages(of_user, of_each.trim().parse().unwrap_or(SHORTAGES), random);
        } else if let Ok(number) = wanted.parse::<usize>() {
            // Of each kind as many: else nearly all would be reads and writes.
            let kinds = list_kinds(of_user);
            for _ in 0..number {
                let (place, count, fault) = kinds[random.below(kinds.len())];
                points.push(new_point(place, 1 + random.below(count), fault));
            }
        } else {
            assert!(is_sample || wanted == "kinds", "PODCTL_TEST_FAULTS={wanted}?");
            let is_last = own + 1 == counts.len();
            for (place, count, fault) in list_kinds(of_user) {
                let is_others =
                    chosen.iter().flatten().any(|point| point.is_of(place) && point.fault == fault);
                let is_elsewhere = counts[own + 1..].iter().any(|later| later.contains_key(place));
                // Of what both do, one does it: a coin says who.
                let is_own = !is_others && (is_last || !is_elsewhere || random.below(2) == 0);
                if !is_sample || is_own {
                    points.push(new_point(place, 1 + random.below(count), fault));
                }
            }
            if is_sample {
                points.extend(choose_shortages(of_user, SHORTAGES, random));
            }
        }
        chosen.push(points);
    }
    chosen
}

/// Puts points of different stages together that one life can try one after the other; those that come to the same calls, where
/// that is possible, for fewer are heard of then.
pub fn join_points(mut points: Vec<Point>, stages: &[&str]) -> Vec<Vec<Point>> {
    points.sort_by(|a, b| a.call.cmp(&b.call));
    let mut lives: Vec<Vec<Point>> = Vec::new();
    for stage in stages {
        let of_stage = points.iter().filter(|point| point.stage == *stage);
        for (at, point) in of_stage.enumerate() {
            match lives.get_mut(at) {
                Some(life) => life.push(point.clone()),
                None => lives.push(vec![point.clone()]),
            }
        }
    }
    lives
}
