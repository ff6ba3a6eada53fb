/** How often the machine is looked at, and from where on it is under pressure. */
export const nodeStatusLimits = {
  sampleIntervalMs: {
    value: 10_000, unit: 'milliseconds', meaning: 'Between two looks at the machine.',
    atLimit: 'What has changed besides times goes up at once.'
  },
  reportIntervalMs: {
    value: 300_000, unit: 'milliseconds', meaning: 'Between two reports of a machine on which nothing changes.',
    atLimit: 'The heartbeats are brought up to date and go up.'
  },
  pressureHoldMs: {
    value: 300_000, unit: 'milliseconds', meaning: 'A pressure is reported for so long after it was last seen.',
    atLimit: 'The condition is False again.'
  },
  memoryAvailableBytesMin: {
    value: 100 * 1024 * 1024, unit: 'bytes', meaning: 'Available memory, as MemAvailable says.',
    atLimit: 'Below it MemoryPressure is True. So much is not allocatable.'
  },
  diskAvailablePercentMin: {
    value: 10, unit: 'percent', meaning: 'Available space of the data directory\'s file system.',
    atLimit: 'Below it DiskPressure is True. So much is not allocatable.'
  },
  inodesFreePercentMin: {
    value: 5, unit: 'percent', meaning: 'Free inodes of the data directory\'s file system, where it counts them.',
    atLimit: 'Below it DiskPressure is True.'
  },
  pidsFreePercentMin: {
    value: 10, unit: 'percent', meaning: 'Process identifiers that are free.',
    atLimit: 'Below it PIDPressure is True.'
  },
  podsMax: {
    value: 110, unit: 'pods', meaning: 'Pods that the node offers to hold, as the capacity says.',
    atLimit: 'A scheduler sends no more. What is sent is held.'
  }
} as const
