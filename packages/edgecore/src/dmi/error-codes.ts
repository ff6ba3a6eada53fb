import type { ErrorTable } from '@holdfast/runtime'

/** What mappers are answered, beside the codes of twins (`TWIN_…`) and of the store (`DISK_FULL`, `STORE_FAILED`). */
export const dmiErrorCodes = {
  DMI_MAPPER_INVALID: {
    cause: 'A registration lacks the mapper\'s name, protocol or address, one of them is too long, or the address is no ' +
      'absolute path of a Unix socket. gRPC status INVALID_ARGUMENT.',
    remedy: 'Correct what the message names in the mapper\'s configuration.',
    retryable: false
  },
  DMI_MAPPERS_TOO_MANY: {
    cause: 'As many mappers are registered as may be, and each has devices. gRPC status RESOURCE_EXHAUSTED.',
    remedy: 'Serve several protocols\' devices on more nodes, or take Devices of unused protocols off this node.',
    retryable: true
  },
  DMI_REPORT_INVALID: {
    cause: 'A report names no device, holds no reported value, or holds more than one may. gRPC status INVALID_ARGUMENT.',
    remedy: 'Send what the message asks for; docs/spec/dmi.md has the rules.',
    retryable: false
  },
  DMI_BUSY: {
    cause: 'As many calls of mappers wait for the disk as may. gRPC status RESOURCE_EXHAUSTED.',
    remedy: 'Report again a little later; a disk that stays slow is worth a look at holdfast_edge_commit_seconds.',
    retryable: true
  }
} as const satisfies ErrorTable
