//! Programs of tests. Those that make floods invent the next packet and then run
//! one of weir's programs on it; another one counts.
//!
//! BPF_PROG_TEST_RUN repeats a program on one buffer. User space would need a
//! system call for each packet that is unlike the last one, which takes longer
//! than what is tested; here, ten million invented clients take some seconds.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod generator {
    use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
    use aya_ebpf::macros::{classifier, map, xdp};
    use aya_ebpf::maps::{Array, ProgramArray};
    use aya_ebpf::programs::{TcContext, XdpContext};
    use probe_common::hash::mix;

    /// The part of a frame that packets differ in, and weir changes, in halfwords:
    /// Ethernet, IPv6 and TCP headers are 74 bytes.
    const HALVES: usize = 40;
    /// weir's programs that can be run.
    const TARGETS: u32 = 4;

    /// A number that is drawn for each packet. User space has the same layout.
    #[repr(C)]
    struct Drawn {
        /// Where its last halfword is; 0 if it is not drawn.
        at: u32,
        /// The least, host order.
        least: u32,
        /// How many there are.
        count: u32,
    }

    /// What packets are made of. User space has the same layout.
    #[repr(C)]
    struct Recipe {
        /// The last packet, wire order.
        frame: [u16; HALVES],
        /// The number of the next packet: the same number, the same packet.
        next: u64,
        /// The low word of an address.
        address: Drawn,
        port: Drawn,
        /// Of TCP.
        sequence: Drawn,
        /// The transport's checksum.
        checksum: u32,
        /// IPv4's checksum; 0 for IPv6.
        ip_checksum: u32,
        /// Which of weir's programs.
        target: u32,
    }

    #[map]
    static RECIPE: Array<Recipe> = Array::with_max_entries(1, 0);
    /// weir's programs at TC.
    #[map]
    static TARGETS_TC: ProgramArray = ProgramArray::with_max_entries(TARGETS, 0);
    /// weir's programs at XDP.
    #[map]
    static TARGETS_XDP: ProgramArray = ProgramArray::with_max_entries(TARGETS, 0);

    #[inline(always)]
    fn fold(sum: u32) -> u16 {
        let once = (sum & 0xffff) + (sum >> 16);
        ((once & 0xffff) + (once >> 16)) as u16
    }

    /// Replaces a halfword, and updates a checksum over it (RFC 1624). Wire order.
    #[inline(always)]
    fn update(frame: &mut [u16; HALVES], checksum: u32, old: u16, new: u16) -> Option<()> {
        let sum = frame.get_mut(checksum as usize)?;
        *sum = !fold(!*sum as u32 + !old as u32 + new as u32);
        Some(())
    }

    /// Writes a halfword, in host order.
    #[inline(always)]
    fn set(recipe: &mut Recipe, at: u32, value: u32, of_ip: bool) -> Option<()> {
        let new = (value as u16).to_be();
        let old = core::mem::replace(recipe.frame.get_mut(at as usize)?, new);
        update(&mut recipe.frame, recipe.checksum, old, new)?;
        if of_ip && recipe.ip_checksum != 0 {
            update(&mut recipe.frame, recipe.ip_checksum, old, new)?;
        }
        Some(())
    }

    /// The number that 32 random bits give.
    #[inline(always)]
    fn draw(drawn: &Drawn, bits: u32) -> u32 {
        drawn.least.wrapping_add(((bits as u64 * drawn.count as u64) >> 32) as u32)
    }

    /// Makes the next packet; None if the recipe is wrong or the buffer too short.
    #[inline(always)]
    fn place(data: usize, end: usize) -> Option<u32> {
        let recipe = RECIPE.get_ptr_mut(0)?;
        // SAFETY: the only entry of an array; nothing else uses it while programs run.
        let recipe = unsafe { &mut *recipe };
        let bits = mix(recipe.next.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        recipe.next += 1;
        let address = draw(&recipe.address, (bits >> 32) as u32);
        set(recipe, recipe.address.at.wrapping_sub(1), address >> 16, true)?;
        set(recipe, recipe.address.at, address, true)?;
        let port = draw(&recipe.port, bits as u32);
        set(recipe, recipe.port.at, port, false)?;
        if recipe.sequence.at != 0 {
            let sequence = draw(&recipe.sequence, mix(!bits) as u32);
            set(recipe, recipe.sequence.at.wrapping_sub(1), sequence >> 16, false)?;
            set(recipe, recipe.sequence.at, sequence, false)?;
        }
        if data + size_of_val(&recipe.frame) > end {
            return None;
        }
        for (at, half) in recipe.frame.iter().enumerate() {
            // Volatile, else the compiler makes a call of it that copies byte by byte.
            // SAFETY: within the packet, as the verifier checks; the targets store unaligned.
            unsafe { (data as *mut u16).add(at).write_volatile(*half) };
        }
        Some(recipe.target)
    }

    /// Runs a program at TC. Drops if there is nothing to run, so that it shows.
    #[classifier]
    pub fn flood_tc(ctx: TcContext) -> i32 {
        if let Some(target) = place(ctx.data(), ctx.data_end()) {
            // SAFETY: the context of this program.
            unsafe { TARGETS_TC.tail_call(&ctx, target) };
        }
        TC_ACT_SHOT
    }

    /// Runs a program at XDP. Aborts if there is nothing to run, so that it shows.
    /// Takes packets in several buffers, as what it runs does: the kernel has either
    /// call its like only.
    #[xdp(frags)]
    pub fn flood_xdp(ctx: XdpContext) -> u32 {
        if let Some(target) = place(ctx.data(), ctx.data_end()) {
            // SAFETY: the context of this program.
            unsafe { TARGETS_XDP.tail_call(&ctx, target) };
        }
        xdp_action::XDP_ABORTED
    }

    /// Packets that have left an interface, by their priority.
    #[map]
    static PRIORITIES: Array<u64> = Array::with_max_entries(16, 0);

    /// Counts a packet that leaves.
    #[classifier]
    pub fn count_priorities(ctx: TcContext) -> i32 {
        // SAFETY: the program's context.
        let priority = unsafe { (*ctx.skb.skb).priority };
        if let Some(count) = PRIORITIES.get_ptr_mut(priority) {
            // SAFETY: an entry of the map; tests send one packet at a time.
            unsafe { *count += 1 }
        }
        TC_ACT_UNSPEC
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
