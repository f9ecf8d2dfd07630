//! What a second run adds, what it mends, and what it does not touch.

use super::formats::read_back;
use super::*;
use crate::types::ChainId;

#[test]
fn a_second_run_adds_only_what_is_new() {
    for format in Format::ALL {
        let (mut story, out) = (Story::told(), directory());
        export(&story, out.path(), format);
        let before = contents(out.path());
        story.pay_strangers(20);
        story.act(&[]);
        let report = export(&story, out.path(), format);
        assert_eq!(read_back(out.path(), format), expected(&story), "{format}");
        let added: Vec<_> = report.files.iter().map(|entry| (entry.table, entry.min_height, entry.rows)).collect();
        assert_eq!(added[..3], [(Table::Blocks, 11, 2), (Table::Transactions, 11, 20), (Table::Accounts, 12, 24)]);
        assert_eq!(report.height, 12);
        let after = contents(out.path());
        for (name, bytes) in
            before.iter().filter(|(name, _)| name.contains("__blocks__") || name.contains("__transactions__"))
        {
            assert_eq!(after.get(name), Some(bytes), "{name} stays as it was");
        }
        let files = if format == Format::Sqlite { 1 } else { 9 };
        assert_eq!(after.len(), files, "tables of the state have one file each: {:?}", after.keys());
    }
}

#[test]
fn a_run_with_nothing_new_writes_nothing() {
    let story = Story::told();
    for format in Format::ALL {
        let out = directory();
        export(&story, out.path(), format);
        let modified =
            |name: &str| fs::metadata(out.path().join(name)).and_then(|found| found.modified()).expect("a file");
        let names = folder::names(out.path()).expect("a directory");
        let before: Vec<_> = names.iter().map(|name| modified(name)).collect();
        let report = export(&story, out.path(), format);
        assert_eq!((report.rows, report.files.len(), report.height), (0, 0, 10));
        assert_eq!(names.iter().map(|name| modified(name)).collect::<Vec<_>>(), before, "{format}");
    }
}

#[test]
fn the_manifest_names_each_file_with_its_rows_heights_and_hash() {
    let story = Story::told();
    for format in Format::ALL {
        let out = directory();
        export(&story, out.path(), format);
        let manifest = manifest(out.path());
        assert_eq!(manifest.files.len(), Table::ALL.len());
        for entry in &manifest.files {
            let bytes = fs::read(out.path().join(&entry.file)).expect("a file");
            assert_eq!(entry.blake3, blake3::hash(&bytes).to_hex().to_string());
            assert_eq!(entry.bytes, bytes.len() as u64);
            assert_eq!(entry.rows, all_rows(&story.snapshot(), entry.table).len() as u64);
            assert_eq!(entry.schema, entry.table.schema().hash());
            let first = if entry.table.schema().span == Span::Heights { 0 } else { 10 };
            assert_eq!((entry.min_height, entry.max_height), (first, 10));
        }
        let chain = story.chain.id.short();
        let blocks = &manifest.files[0].file;
        let want = if format == Format::Sqlite { "all.sqlite".to_owned() } else { format!("blocks__0_10.{format}") };
        assert_eq!(*blocks, format!("{chain}__{want}"));
    }
}

#[test]
fn chosen_heights_leave_gaps_that_a_later_run_fills() {
    let story = Story::told();
    for format in Format::ALL {
        let out = directory();
        let part = |from, to| Exporter::new(out.path(), format).heights(Height::new(from), Some(Height::new(to)));
        part(3, 4).run(&mut source(&story), &mut |_| {}).expect("a good export");
        part(7, 99).run(&mut source(&story), &mut |_| {}).expect("a good export");
        let report = export(&story, out.path(), format);
        let filled: Vec<_> =
            report.files.iter().map(|entry| (entry.table, entry.min_height, entry.max_height)).collect();
        let blocks = [(Table::Blocks, 0, 2), (Table::Blocks, 5, 6)];
        assert_eq!(filled, [blocks, blocks.map(|(_, from, to)| (Table::Transactions, from, to))].concat());
        assert_eq!(read_back(out.path(), format), expected(&story), "{format}");
        if format == Format::Sqlite {
            assert_eq!(manifest(out.path()).files.len(), Table::ALL.len(), "ranges of the one file grow together");
        }
    }
}

#[test]
fn a_file_that_is_gone_or_cut_is_exported_again() {
    let story = Story::told();
    for format in Format::ALL {
        let out = directory();
        export(&story, out.path(), format);
        let (whole, entries) = (contents(out.path()), manifest(out.path()).files);
        fs::remove_file(out.path().join(&entries[1].file)).expect("it was there");
        if format != Format::Sqlite {
            fs::write(out.path().join(&entries[0].file), &whole[&entries[0].file][..100]).expect("a shorter file");
        }
        export(&story, out.path(), format);
        assert_eq!(read_back(out.path(), format), expected(&story), "{format}");
        assert_eq!(contents(out.path()), whole, "{format}");
    }
}

#[test]
fn a_plan_says_what_a_run_then_does_and_touches_nothing() {
    let mut story = Story::told();
    for format in Format::ALL {
        let home = directory();
        let out = home.path().join("out");
        for _ in 0..2 {
            let plan = Exporter::new(&out, format).plan(&mut source(&story)).expect("a plan");
            let report = export(&story, &out, format);
            let planned: Vec<_> =
                plan.files.into_iter().map(|p| (p.file, p.table, p.min_height, p.max_height, p.rows)).collect();
            let done = report.files.into_iter().map(|e| (e.file, e.table, e.min_height, e.max_height, Some(e.rows)));
            assert_eq!(planned, done.collect::<Vec<_>>(), "{format}");
            assert_eq!((plan.height, plan.schemas.len()), (report.height, 7));
            story.act(&[(0, crate::ledger::testing::pay(1, 1))]);
        }
        let other = home.path().join("other");
        Exporter::new(&other, format).plan(&mut source(&story)).expect("a plan");
        assert!(!other.exists());
    }
}

fn refused(out: &Path, format: Format, story: &Story) -> Refusal {
    match Exporter::new(out, format).run(&mut source(story), &mut |_| {}) {
        Err(ExportError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_directory_that_is_not_this_export_is_refused_and_stays_as_it_is() {
    let (story, out) = (Story::told(), directory());
    fs::write(out.path().join("thesis.txt"), "precious").expect("a file");
    assert!(matches!(refused(out.path(), Format::Csv, &story), Refusal::NotAnExport(_)));
    assert_eq!(folder::names(out.path()).expect("a directory"), ["thesis.txt"]);

    let out = directory();
    export(&story, out.path(), Format::Csv);
    assert!(matches!(refused(out.path(), Format::Jsonl, &story), Refusal::Format { .. }));
    let good = manifest(out.path());
    let with = |change: &dyn Fn(&mut Manifest)| {
        let mut changed = good.clone();
        change(&mut changed);
        fs::write(out.path().join(MANIFEST), serde_json::to_vec(&changed).expect("JSON")).expect("a file");
        refused(out.path(), Format::Csv, &story)
    };
    let other = ChainId::from_bytes([3; 32]).to_string();
    assert!(matches!(with(&|m| m.chain_id = other.clone()), Refusal::Chain { .. }));
    assert!(matches!(with(&|m| m.version = 2), Refusal::Manifest { .. }));
    assert!(matches!(with(&|m| m.files[0].file = "../../home".to_owned()), Refusal::Manifest { .. }));
    assert!(matches!(with(&|m| m.files[4].schema = "0".to_owned()), Refusal::Schema { table: Table::Validators, .. }));
    fs::write(out.path().join(MANIFEST), "{").expect("a file");
    assert!(matches!(refused(out.path(), Format::Csv, &story), Refusal::Manifest { .. }));
}

#[test]
fn two_exports_never_write_to_one_directory_at_once() {
    let (story, out) = (Story::told(), directory());
    let first = Folder::open::<std::convert::Infallible>(out.path()).expect("free");
    assert!(matches!(refused(out.path(), Format::Csv, &story), Refusal::Busy(_)));
    drop(first);
    assert_eq!(export(&story, out.path(), Format::Csv).height, 10);
}

/// The story's rows, with changes on the way.
struct Changed<'a, F> {
    story: &'a Story,
    change: F,
}

impl<F: Fn(Row) -> Option<Result<Row, std::io::Error>>> RowSource for Changed<'_, F> {
    type Error = std::io::Error;
    fn position(&mut self) -> Result<Position, Self::Error> {
        Ok(source(self.story).position().expect("a tip"))
    }
    fn rows(&mut self, table: Table, _: Height, _: Height) -> Result<RowStream<'_, Self::Error>, Self::Error> {
        Ok(Box::new(all_rows(&self.story.snapshot(), table).into_iter().filter_map(&self.change)))
    }
}

#[test]
fn rows_that_are_left_out_mixed_or_broken_off_end_the_export_and_leave_no_file() {
    type Change = fn(Row) -> Option<Result<Row, std::io::Error>>;
    let skip: Change = |row| (row.table() != Table::Blocks || row.height() != Height::new(4)).then_some(Ok(row));
    let early: Change = |row| (row.table() != Table::Blocks || row.height() < Height::new(9)).then_some(Ok(row));
    let mixed: Change = |mut row| {
        if let Row::Blocks(block) = &mut row {
            block.height += u64::from(block.height == 7);
        }
        Some(Ok(row))
    };
    let foreign: Change = |mut row| {
        if let Row::Blocks(block) = &mut row {
            block.chain_id = "another".to_owned();
        }
        Some(Ok(row))
    };
    let broken: Change = |row| match row.height().get() {
        6 => Some(Err(std::io::ErrorKind::UnexpectedEof.into())),
        _ => Some(Ok(row)),
    };
    let story = Story::told();
    for format in Format::ALL {
        for (change, is_source) in [(skip, false), (early, false), (mixed, false), (foreign, false), (broken, true)] {
            let out = directory();
            let mut source = Changed { story: &story, change };
            let done = Exporter::new(out.path(), format).run(&mut source, &mut |_| {});
            match done {
                Err(ExportError::Rows { table: Table::Blocks, .. }) => assert!(!is_source),
                Err(ExportError::Source(_)) => assert!(is_source),
                other => panic!("not noticed: {other:?}"),
            }
            assert!(contents(out.path()).is_empty(), "{format}");
            export(&story, out.path(), format);
            assert_eq!(read_back(out.path(), format), expected(&story), "{format}");
        }
    }
}

#[test]
fn two_states_in_one_table_are_noticed() {
    let story = Story::told();
    let change = |mut row| {
        if let Row::Nodes(node) = &mut row {
            node.as_of_height += u64::from(node.registered_height > 0);
        }
        Some(Ok(row))
    };
    let out = directory();
    let done = Exporter::new(out.path(), Format::Csv).run(&mut Changed { story: &story, change }, &mut |_| {});
    assert!(matches!(done, Err(ExportError::Rows { table: Table::Nodes, .. })), "{done:?}");
}

#[test]
fn progress_is_told_for_every_table() {
    let (story, out) = (Story::told(), directory());
    let mut seen = BTreeMap::new();
    let mut note = |progress: Progress| {
        seen.insert(progress.table, progress.rows);
    };
    Exporter::new(out.path(), Format::Jsonl).run(&mut source(&story), &mut note).expect("a good export");
    let want: BTreeMap<_, _> =
        Table::ALL.iter().map(|table| (*table, all_rows(&story.snapshot(), *table).len() as u64)).collect();
    assert_eq!(seen, want);
}
