//! Global functions: the verifier looks at such a one once, by itself, and not once
//! for each way to its call.

/// A global function that is told of a packet.
macro_rules! global_function {
    ($name:ident($context:ty, $frame:ident, $($argument:ident: $type:ty),*) -> $result:ty = $body:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(context: *mut $context, $($argument: $type),*) -> $result {
            let $frame = &$crate::programs::hook::Hook::again(context);
            $body
        }
    };
}
pub(crate) use global_function;

/// Global functions that are told numbers alone, for either family, and a trait by
/// which code that is generic over families calls them: a method for each, which are
/// `function::<V4>` and `function::<V6>` by the names behind it.
macro_rules! global_numbers {
    ($(#[$of:meta])* trait $name:ident: $base:path {
        $($(#[$doc:meta])* fn $method:ident($($argument:ident),*) = $function:ident: $v4:ident, $v6:ident;)*
    }) => {
        $(#[$of])*
        pub trait $name: $base {
            $($(#[$doc])* fn $method($($argument: u32),*) -> u32;)*
        }
        $crate::programs::global::global_numbers!(@family $name, probe_common::address::V4:
            $($method($($argument),*) = $function, $v4;)*);
        $crate::programs::global::global_numbers!(@family $name, probe_common::address::V6:
            $($method($($argument),*) = $function, $v6;)*);
    };
    (@family $name:ident, $family:ty:
        $($method:ident($($argument:ident),*) = $function:ident, $global:ident;)*
    ) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $global($($argument: u32),*) -> u32 {
                $function::<$family>($($argument),*)
            }
        )*
        impl $name for $family {
            $(
                #[inline(always)]
                fn $method($($argument: u32),*) -> u32 {
                    $global($($argument),*)
                }
            )*
        }
    };
}
pub(crate) use global_numbers;
