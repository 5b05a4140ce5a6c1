//! A substream of a device beside the device's own stream: two CDs of one table.

use smmu_attach::*;
use smmu_types::SubstreamId;

use crate::hardware::Beside;
use crate::models::D;
use crate::world::*;

const SUBSTREAM: u32 = 1;

/// One thread attaches the substream, another replaces D as the domain of the stream. A third unmaps
/// a domain or walks; the walks of both attaching threads come in addition.
///
/// No attach interrupts that of the other thread. So a walker always finds the domain from before or
/// the domain that the thread of its own key has asked for.
pub(crate) fn substream_beside_stream(
    held: Option<usize>,
    [stream_to, substream_to]: [usize; 2],
    unmapped: Option<usize>,
    preemptions: usize,
) {
    model(preemptions, move || {
        let world = World::beside(Beside::Substreams, STAGE_1).attached(0, D);
        let device = &world.devices[0];
        let substream = device.substream(SubstreamId::new(SUBSTREAM).unwrap()).unwrap();
        if let Some(held) = held {
            assert_eq!(substream.attach(&world.domains[held]), Ok(Outcome::Done));
        }
        let mapper_or_walker = if let Some(domain) = unmapped {
            world.mapper(domain)
        } else {
            let hardware = world.hardware.clone();
            spawn(move || {
                let found = hardware.dma_of(0, SUBSTREAM.into());
                assert!([held, Some(substream_to)].contains(&found), "substream: {found:?}");
                let found = hardware.dma_of(0, 0);
                assert!([Some(D), Some(stream_to)].contains(&found), "stream: {found:?}");
            })
        };
        let other = {
            let (hardware, substream) = (world.hardware.clone(), substream.clone());
            let domain = world.domains[substream_to].clone();
            spawn(move || {
                assert_eq!(substream.attach(&domain).unwrap().settled(), Ok(()));
                assert_eq!(hardware.dma_of(0, SUBSTREAM.into()), Some(substream_to));
                let found = hardware.dma_of(0, 0);
                assert!([Some(D), Some(stream_to)].contains(&found), "stream: {found:?}");
            })
        };
        assert_eq!(device.attach(&world.domains[stream_to]).unwrap().settled(), Ok(()));
        assert_eq!(world.hardware.dma_of(0, 0), Some(stream_to));
        other.join().unwrap();
        mapper_or_walker.join().unwrap();
        for (attachment, to) in
            [(device.attachment(), stream_to), (substream.attachment(), substream_to)]
        {
            let Attachment::Domain(domain) = attachment else { panic!("{attachment:?}") };
            assert!(domain.is_same(&world.domains[to]), "{domain:?} instead of domain {to}");
        }
        for domain in 0..world.domains.len() {
            let users = u32::from([stream_to, substream_to].contains(&domain));
            assert_eq!(world.users(domain), users, "users of domain {domain}");
        }
        assert_eq!(world.hardware.dma_of(0, 0), Some(stream_to));
        assert_eq!(world.hardware.dma_of(0, SUBSTREAM.into()), Some(substream_to));
        assert_eq!(substream.block().settled(), Ok(()));
        assert_eq!(world.hardware.dma_of(0, SUBSTREAM.into()), None);
        world.end();
    });
}
