//! Large zeroed f32 buffers, allocated once, aligned for huge pages.
#![allow(unsafe_code, reason = "alignment and huge pages need the allocator's raw interface")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

const HUGE_PAGE: usize = 1 << 21;

/// A zeroed buffer of f32; from 2 MiB on it is aligned to, and backed by, huge pages where the
/// system allows.
pub struct Buf {
    ptr: *mut f32,
    len: usize,
}

// SAFETY: a Buf owns its memory as a Vec<f32> does; `&Buf` only reads.
unsafe impl Send for Buf {}
// SAFETY: see above.
unsafe impl Sync for Buf {}

impl Buf {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let layout = layout(len);
        // SAFETY: the layout is not empty; the memory is written in full before it is read.
        let ptr = unsafe {
            let ptr = alloc(layout);
            if ptr.is_null() {
                handle_alloc_error(layout);
            }
            advise_huge_pages(ptr, layout);
            ptr.write_bytes(0, layout.size());
            ptr.cast()
        };
        Buf { ptr, len }
    }

    /// A copy of `values`.
    pub fn copied(values: &[f32]) -> Self {
        let mut buf = Buf::zeroed(values.len());
        buf.copy_from_slice(values);
        buf
    }
}

fn layout(len: usize) -> Layout {
    let bytes = len.max(16).checked_mul(size_of::<f32>());
    let align = |bytes: usize| if bytes >= HUGE_PAGE { HUGE_PAGE } else { 64 };
    bytes
        .and_then(|bytes| Layout::from_size_align(bytes, align(bytes)).ok())
        .expect("a buffer's size fits the address space: shapes are validated first")
}

fn advise_huge_pages(ptr: *mut u8, layout: Layout) {
    #[cfg(target_os = "linux")]
    if layout.size() >= HUGE_PAGE {
        // SAFETY: the range was just allocated. The advice may be refused; that costs only speed.
        unsafe { libc::madvise(ptr.cast(), layout.size(), libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let (_, _) = (ptr, layout);
}

impl Drop for Buf {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with the same layout.
        unsafe { dealloc(self.ptr.cast(), layout(self.len)) }
    }
}

impl Deref for Buf {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised elements, owned by self.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr, self.len) }
    }
}

/// A slice that several threads write at disjoint places.
pub(crate) struct Shared<'a> {
    ptr: *mut f32,
    len: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: its users promise that the places at which they write are disjoint.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(data: &'a mut [f32]) -> Self {
        Shared { ptr: data.as_mut_ptr(), len: data.len(), life: PhantomData }
    }

    /// Where element `at` stands; `len` elements from there on exist.
    pub(crate) fn at(&self, at: usize, len: usize) -> *mut f32 {
        assert!(at <= self.len && len <= self.len - at, "a view out of bounds");
        // SAFETY: within the slice by the check above.
        unsafe { self.ptr.add(at) }
    }

    /// # Safety
    /// The elements belong to the caller's unit of work alone.
    #[expect(clippy::mut_from_ref, reason = "disjoint parts of one slice, as the caller promises")]
    pub(crate) unsafe fn slice(&self, at: usize, len: usize) -> &mut [f32] {
        // SAFETY: in bounds by the check in `at`; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at(at, len), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_zero_and_aligned_at_any_size() {
        for len in [0, 1, 1000, 1 << 19, (1 << 19) + 3] {
            let buf = Buf::zeroed(len);
            assert_eq!(buf.len(), len);
            assert!(buf.iter().all(|x| *x == 0.0));
            let align = if len >= 1 << 19 { HUGE_PAGE } else { 64 };
            assert_eq!(buf.as_ptr().align_offset(align), 0);
        }
    }
}
