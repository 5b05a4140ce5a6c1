//! Leaves out what a failure does not need.

/// The fewest items that still fail, as far as leaving some out shows.
///
/// `fails` says whether a list still fails. The list that comes in fails.
pub fn shrunk<T: Clone>(mut items: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut size = items.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < items.len() {
            let mut fewer = items.clone();
            fewer.drain(at..(at + size).min(items.len()));
            if fails(&fewer) {
                items = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_failure_needs_is_left() {
        let mut asked = 0;
        let few = shrunk((0..1000).collect(), |items: &[u32]| {
            asked += 1;
            items.contains(&3) && items.contains(&700) && items.contains(&701)
        });
        assert_eq!(few, [3, 700, 701]);
        assert!(asked < 120, "{asked}");
    }

    #[test]
    fn a_failure_without_items_needs_none() {
        assert_eq!(shrunk(vec![1, 2, 3], |_| true), Vec::<i32>::new());
    }
}
