"""Predictions on disk: resumable at any moment, checked, memory-mapped.

    STORE/store.json            classes, and of each model how it is loaded, what it costs, and
                                maybe how it is calibrated
    STORE/SPLIT/samples.json    ids, labels, a digest of each sample, and what was left out
    STORE/SPLIT/MODEL.npy       outputs (N, C); of decisions (N, 2): class and confidence
    STORE/SPLIT/MODEL.json      kind, fingerprints, and a checksum of every chunk of rows

While a model is written, its chunks and a journal lie in MODEL.npy.part/. Whatever moment a process
dies at, the chunks that the journal vouches for are used, the rest is computed again, and the files
end up the same bytes. See :mod:`committee.store.chunks`.
"""
