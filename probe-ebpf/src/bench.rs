//! What the benchmark needs in the kernel: a driver, which puts the next of the
//! prepared packets in place and then runs the program that is measured.
//!
//! BPF_PROG_TEST_RUN repeats a program on one buffer, so that from the second
//! run on it would see what the first one made of the packet. The driver
//! restores the headers first. Its own cost is measured by driving a program
//! that does nothing.
//!
//! Beside it are programs that do one thing which a packet's way consists of.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// For an asm! that is a barrier.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod driver {
    use aya_ebpf::EbpfContext as _;
    use aya_ebpf::bindings::{BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
    use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_l4_csum_replace};
    use aya_ebpf::macros::{classifier, map, xdp};
    use aya_ebpf::maps::{Array, LruHashMap, ProgramArray};
    use aya_ebpf::programs::{TcContext, XdpContext};

    /// The bytes of a packet that a program may change: Ethernet, IPv6 and TCP
    /// headers are 74.
    type Headers = [u64; 10];

    /// Which packets are driven. User space has the same layout.
    #[repr(C)]
    struct Cursor {
        /// The next one in FRAMES.
        next: u32,
        /// After the last one comes this one.
        first: u32,
        /// Behind the last one.
        end: u32,
        /// Zero.
        zero: u32,
        /// How many were driven.
        driven: u64,
    }

    /// Headers of prepared packets. The benchmark sets the size.
    #[map]
    static FRAMES: Array<Headers> = Array::with_max_entries(1, 0);
    #[map]
    static CURSOR: Array<Cursor> = Array::with_max_entries(1, 0);
    /// The program that is measured at TC.
    #[map]
    static MEASURED_TC: ProgramArray = ProgramArray::with_max_entries(1, 0);
    /// The program that is measured at XDP.
    #[map]
    static MEASURED_XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);

    /// Puts the next packet's headers in place; None if the buffer is too short.
    #[inline(always)]
    fn place(data: usize, end: usize) -> Option<()> {
        let cursor = CURSOR.get_ptr_mut(0)?;
        // SAFETY: the only entry of an array; nothing else uses it while programs are driven.
        let cursor = unsafe { &mut *cursor };
        let frame = FRAMES.get(cursor.next)?;
        if data + size_of::<Headers>() > end {
            return None;
        }
        for (at, word) in frame.iter().enumerate() {
            // Volatile, else the compiler makes a call of it that copies byte by byte.
            // SAFETY: within the packet, as the verifier checks; the targets store unaligned.
            unsafe { (data as *mut u64).add(at).write_volatile(*word) };
        }
        let next = cursor.next + 1;
        cursor.next = if next == cursor.end { cursor.first } else { next };
        // An atomic addition is a full barrier. Without it, the measured program would wait
        // for the stores above, and run into the driver's own instructions, as no packet
        // that came from a device does.
        // SAFETY: an aligned word of the entry above.
        unsafe {
            core::arch::asm!("lock *(u64 *)({0} + 0) += {1}",
                in(reg) &raw mut cursor.driven, in(reg) 1u64);
        }
        Some(())
    }

    /// Drives at TC. Drops if there is nothing to run, so that it shows.
    #[classifier]
    pub fn drive_tc(ctx: TcContext) -> i32 {
        if place(ctx.data(), ctx.data_end()).is_some() {
            // SAFETY: the context of this program.
            unsafe { MEASURED_TC.tail_call(&ctx, 0) };
        }
        TC_ACT_SHOT
    }

    /// Drives at XDP. Aborts if there is nothing to run, so that it shows. Takes
    /// packets in several buffers since what is measured does: the kernel has
    /// either call its like only.
    #[xdp(frags)]
    pub fn drive_xdp(ctx: XdpContext) -> u32 {
        if place(ctx.data(), ctx.data_end()).is_some() {
            // SAFETY: the context of this program.
            unsafe { MEASURED_XDP.tail_call(&ctx, 0) };
        }
        xdp_action::XDP_ABORTED
    }

    /// Does nothing, at TC.
    #[classifier]
    pub fn empty_tc(_ctx: TcContext) -> i32 {
        TC_ACT_UNSPEC
    }

    /// Does nothing, at XDP.
    #[xdp(frags)]
    pub fn empty_xdp(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// As large as a flow over IPv4 and its entry. The benchmark sets the size.
    #[map]
    static TABLE: LruHashMap<[u64; 2], [u64; 5]> = LruHashMap::with_max_entries(1, 0);

    /// Lets a packet pass if its part was done, so that it shows if it was not.
    #[inline(always)]
    fn passed(done: bool) -> i32 {
        if done { TC_ACT_UNSPEC } else { TC_ACT_SHOT }
    }

    /// Not known to the compiler to be what it is.
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn bench_called(number: u32) -> u32 {
        let mut result = number;
        // SAFETY: no instruction at all.
        unsafe { core::arch::asm!("/* {0} */", inout(reg) result) };
        result
    }

    /// A call of a function.
    #[classifier]
    pub fn call_tc(ctx: TcContext) -> i32 {
        passed(bench_called(ctx.len()) != 0)
    }

    /// A look-up in a table of the kind of the flow tables, by the packet's addresses and ports.
    #[classifier]
    pub fn look_up_tc(ctx: TcContext) -> i32 {
        const ADDRESSES: usize = 14 + 12;
        let (data, end) = (ctx.data(), ctx.data_end());
        if data + ADDRESSES + 12 > end {
            return passed(false);
        }
        let at = (data + ADDRESSES) as *const u32;
        // SAFETY: within the packet, as the verifier checks; the targets load unaligned.
        let key = unsafe { [at.cast::<u64>().read(), u64::from(at.add(2).read())] };
        // SAFETY: nobody writes the entry meanwhile.
        let Some(entry) = (unsafe { TABLE.get(key) }) else {
            return passed(false);
        };
        // All of it is wanted: it may reach into another cache line.
        passed(entry.iter().sum::<u64>() == entry.len() as u64)
    }

    /// The helper that reads the clock.
    #[classifier]
    pub fn clock_tc(_ctx: TcContext) -> i32 {
        // SAFETY: no arguments.
        passed(unsafe { bpf_ktime_get_ns() } != 0)
    }

    /// The helper that changes the checksum of TCP over IPv4.
    #[classifier]
    pub fn checksum_tc(ctx: TcContext) -> i32 {
        const FIELD: u32 = 14 + 20 + 16;
        // SAFETY: the context of this program; the helper checks the offset.
        let failed = unsafe {
            bpf_l4_csum_replace(ctx.as_ptr().cast(), FIELD, 0, 1, BPF_F_PSEUDO_HDR as u64)
        };
        passed(failed == 0)
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
