/** Bounds of the twins on a node (law L8). Those of one twin are the device-twin package's. */
export const twinsLimits = {
  devices: {
    value: 50_000, unit: 'devices', meaning: 'Devices of a node (STA-1).',
    atLimit: 'The batch that brings one more is refused: OBJECT_REFUSED.'
  },
  annotationLength: {
    value: 64 * 1024, unit: 'characters',
    meaning: 'An annotation of a Device that Holdfast reads: holdfast.dev/report-deadband, holdfast.dev/history.',
    atLimit: 'It counts as none, and is logged.'
  },
  reportIntervalMs: {
    value: 3_600_000, unit: 'ms', meaning: 'Annotation holdfast.dev/report-interval of a Device (TWN-31).',
    atLimit: 'It counts as none, and is logged.'
  },
  historyRecordBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'A record of the history of a device (TWN-40).',
    atLimit: 'The report becomes several records, one for each property.'
  },
  troubleIntervalMs: {
    value: 5000, unit: 'ms', meaning: 'How often it is looked at what keeps devices from being served (TWN-42).',
    atLimit: 'What came and went meanwhile is not told.'
  },
  troubleTextMs: {
    value: 300_000, unit: 'ms', meaning: 'Between two texts for the trouble with one device, as long as there is any.',
    atLimit: 'The newest is told at its end.'
  },
  troubleLength: {
    value: 512, unit: 'characters', meaning: 'What goes up of the trouble with a device.', atLimit: 'Cut.'
  },
  loadPageBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'Stored twins read at a time when the store is opened.',
    atLimit: 'The next ones are read when these have been looked at.'
  }
} as const
