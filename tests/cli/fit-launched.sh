# Under a launcher, a task is a rank, for which the plugin for MPI is needed, unless there is only one.
$SYNTH -q --embed 32 --unet-cond 64 -o model
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort | ccld-encode -q -m model --size 64 -o shards
fit="ccld-fit -q --device cpu --threads 2 shards --init-from model/diffusion.safetensors --autoencoder-scale 0 -b 1 --steps 1"
mkdir without
cp "$(command -v ccld-fit)" without
export OMPI_COMM_WORLD_RANK=0
OMPI_COMM_WORLD_SIZE=1 without/$fit -o one
OMPI_COMM_WORLD_SIZE=2 without/$fit -o never || echo $?
export CCLD_MPI_PLUGIN=nosuch.so
OMPI_COMM_WORLD_SIZE=2 $fit -o never || echo $?
CCLD_MPI_PLUGIN=libz.so.1 OMPI_COMM_WORLD_SIZE=2 $fit -o never || echo $?
OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 $fit -o never || echo $?
unset OMPI_COMM_WORLD_RANK
PMI_RANK=0 PMI_SIZE=2 $fit -o never || echo $?
SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 $fit -o never || echo $?
SLURM_PROCID=0 SLURM_NTASKS=2 $fit -o batch # a batch script is no launcher
ls -d one/latest batch/latest
ls -d never || echo $?
