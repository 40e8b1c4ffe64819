//! Mending what somebody has done to podctl's own files.

use super::{Engine, Error, sweep};
use crate::state::Damage;

impl Engine {
    /// Looks for what stands in the places of podctl's own files, at a glance. With `repair` it mends what it can, and
    /// forgets ended pods whose records cannot be read.
    ///
    /// # Errors
    /// [`Error::State`] when records cannot be listed.
    pub(crate) fn check_files(&self, repair: bool) -> Result<Vec<Damage>, Error> {
        let mut found = self.home.look_through_files(repair);
        for (dir, wrong) in self.home.damaged_records()? {
            let forgotten = repair && sweep::forget(&self.home, &dir, None).is_ok();
            let what =
                format!("pod {:?} of namespace {:?}: {wrong}", dir.name.as_str(), dir.namespace.as_str());
            found.push(Damage { path: dir.path, what, mended: forgotten.then_some("forgotten") });
        }
        Ok(found)
    }
}
