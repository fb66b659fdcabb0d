//! Gathering and scaling windows allocates nothing. A binary of its own: the counter sees every thread.

use nd_core::{Batch, WindowSource};
use nd_data::datasets::SyntheticHourly;
use nd_data::{Exogenous, PanelWindows, WindowConfig, WindowScaler, WindowSet};
use nd_testing::alloc::{CountingAllocator, measure};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn gathering_does_not_allocate() {
    let settings = SyntheticHourly {
        n_series: 3,
        length: 400,
        shortest: Some(200),
        exogenous: true,
        ..Default::default()
    };
    let panel = settings.panel::<f32>().unwrap();
    for multivariate in [false, true] {
        let config = WindowConfig {
            multivariate,
            ..WindowConfig::new(48, 12)
        };
        let all = Exogenous::all(&panel);
        let source = PanelWindows::new(&panel, &config, WindowSet::Train, &all).unwrap();
        for scaler in WindowScaler::ALL {
            let source = source.clone().with_scaler(scaler);
            let mut batch = Batch::new(source.layout());
            batch.resize(16);
            let ((), counted) = measure(|| {
                for row in 0..16 {
                    source.gather(0, row * 3, batch.view_mut().row(row));
                }
            });
            assert_eq!(
                counted.count, 0,
                "{scaler}, multivariate {multivariate}: {counted:?}"
            );
        }
    }
}
