print("cleave-bench")
